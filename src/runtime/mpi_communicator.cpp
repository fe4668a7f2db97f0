// Pairwise nonblocking exchanges. Ahead of its values every rank sends each other rank the signature of its call, in a
// message of its own. Values leave at the same time, so the check costs a small message and no round trip, but they are
// received only from ranks whose signature fits: a receive that is too short for its message is undefined behaviour in
// practice (Open MPI 4.1 writes past it when it reads the sender's memory).
// MPI's own collectives cannot be used: they have neither a deadline nor an answer to ranks that make different calls.

#include <autosp/runtime/mpi_communicator.h>

#include "rank_order_reduction.h"

#include <ATen/ops/empty.h>

#include <mpi.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <utility>

namespace autosp::runtime {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kLargestMessage = std::int64_t{1} << 30;  // MPI counts are int.
// How long a rank polls before it lets others run: a millisecond or so, because who yields on a busy machine may wait
// for a whole time slice; at once where ranks share cores, because then it is a rank that must run.
constexpr int kPollsBeforeYield = 20000;
constexpr int kPollsBeforeYieldOfShared = 100;

void CheckMpi(int result, const char* call) {
  if (result == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(result, text, &length);
  throw std::runtime_error(std::string(call) + ": " + std::string(text, static_cast<std::size_t>(length)));
}

// A duplicate of MPI_COMM_WORLD that only this library uses and that returns its errors.
struct World {
  MPI_Comm comm = MPI_COMM_NULL;
  int rank = 0;
  int size = 0;
  int tags = 0;
  bool any_thread = false;
  int polls_before_yield = kPollsBeforeYield;
  std::atomic<bool> broken{false};  // A request may be pending forever.
};

World& TheWorld() {
  static World* world = new World;  // Never destroyed: pending requests and FinalizeAtExit outlive static objects.
  return *world;
}

void FinalizeAtExit() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (finalized == 0 && !TheWorld().broken) MPI_Finalize();
}

void StartWorld() {
  World& world = TheWorld();
  if (world.comm != MPI_COMM_NULL) return;
  int initialized = 0;
  int level = MPI_THREAD_SINGLE;
  CheckMpi(MPI_Initialized(&initialized), "MPI_Initialized");
  if (initialized == 0) {
    CheckMpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &level), "MPI_Init_thread");
    std::atexit(FinalizeAtExit);
  }
  CheckMpi(MPI_Query_thread(&level), "MPI_Query_thread");
  world.any_thread = level == MPI_THREAD_MULTIPLE;
  MPI_Comm comm = MPI_COMM_NULL;
  CheckMpi(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "MPI_Comm_dup");
  CheckMpi(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  CheckMpi(MPI_Comm_rank(comm, &world.rank), "MPI_Comm_rank");
  CheckMpi(MPI_Comm_size(comm, &world.size), "MPI_Comm_size");
  MPI_Comm node = MPI_COMM_NULL;
  int here = 0;
  CheckMpi(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node), "MPI_Comm_split_type");
  CheckMpi(MPI_Comm_size(node, &here), "MPI_Comm_size");
  CheckMpi(MPI_Comm_free(&node), "MPI_Comm_free");
  if (here > static_cast<int>(std::thread::hardware_concurrency()))
    world.polls_before_yield = kPollsBeforeYieldOfShared;
  void* bound = nullptr;
  int found = 0;
  CheckMpi(MPI_Comm_get_attr(comm, MPI_TAG_UB, &bound, &found), "MPI_Comm_get_attr");
  world.tags = found != 0 ? *static_cast<int*>(bound) : 32767;
  world.comm = comm;
}

// The same number in every process: FNV-1a.
std::uint64_t Hash(std::string_view text) {
  std::uint64_t hash = 14695981039346656037ULL;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  return hash;
}

// Goes ahead of the values. Two groups whose names fall on one tag are told apart by the rest of the hash.
struct Header {
  std::uint64_t group = 0;
  CallSignature call;
};

struct Bytes {
  char* data = nullptr;
  std::int64_t size = 0;
};

// One exchange under way, with everything that MPI may still write to or read from.
struct Flight {
  std::vector<at::Tensor> operands;
  Header sent;
  std::vector<Header> received;      // by group rank
  std::vector<MPI_Request> headers;  // i is from Source(i + 1); null once it has come
  std::vector<MPI_Request> values;
  std::vector<int> come;
};

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(const std::string& name, std::int64_t rank, std::vector<int> world_ranks,
                  std::chrono::milliseconds deadline, std::uint64_t hash)
      : Communicator(name, rank, static_cast<std::int64_t>(world_ranks.size()), deadline),
        world_ranks_(std::move(world_ranks)),
        hash_(hash),
        tag_(static_cast<int>(hash % (static_cast<std::uint64_t>(TheWorld().tags) / 2)) * 2),
        owner_(std::this_thread::get_id()) {}

 private:
  int WorldRank(std::int64_t q) const { return world_ranks_[static_cast<std::size_t>(q)]; }

  void CheckUsable(const at::Tensor& x) const {
    if (!x.device().is_cpu()) throw std::runtime_error("MPI moves CPU tensors, this one is on " + x.device().str());
    if (broken_) throw std::runtime_error("an earlier collective of this group failed");
    if (!TheWorld().any_thread && std::this_thread::get_id() != owner_) {
      throw std::runtime_error(
          "MPI was started without MPI_THREAD_MULTIPLE, and this is not the thread that made the communicator");
    }
  }

  void ReceiveHeader(Flight& flight, std::int64_t q) const {
    CheckMpi(MPI_Irecv(&flight.received[static_cast<std::size_t>(q)], sizeof(Header), MPI_BYTE, WorldRank(q), tag_,
                       TheWorld().comm, &flight.headers.emplace_back(MPI_REQUEST_NULL)),
             "MPI_Irecv");
  }

  void ReceiveValues(Flight& flight, std::int64_t q, Bytes to) const {
    for (std::int64_t at = 0; at < to.size; at += kLargestMessage) {
      CheckMpi(MPI_Irecv(to.data + at, static_cast<int>(std::min(kLargestMessage, to.size - at)), MPI_BYTE,
                         WorldRank(q), tag_ + 1, TheWorld().comm, &flight.values.emplace_back(MPI_REQUEST_NULL)),
               "MPI_Irecv");
    }
  }

  void Send(Flight& flight, std::int64_t q, Bytes from) const {
    CheckMpi(MPI_Isend(&flight.sent, sizeof(Header), MPI_BYTE, WorldRank(q), tag_, TheWorld().comm,
                       &flight.values.emplace_back(MPI_REQUEST_NULL)),
             "MPI_Isend");
    for (std::int64_t at = 0; at < from.size; at += kLargestMessage) {
      CheckMpi(MPI_Isend(from.data + at, static_cast<int>(std::min(kLargestMessage, from.size - at)), MPI_BYTE,
                         WorldRank(q), tag_ + 1, TheWorld().comm, &flight.values.emplace_back(MPI_REQUEST_NULL)),
               "MPI_Isend");
    }
  }

  // Polls until `done`; false when the deadline has passed.
  template <typename F>
  static bool Poll(Clock::time_point end, const F& done) {
    for (int polls = 0; !done(); ++polls) {
      if (polls < TheWorld().polls_before_yield) continue;
      if (Clock::now() >= end) return false;
      std::this_thread::yield();
    }
    return true;
  }

  void CheckHeader(const Flight& flight, std::int64_t q) const {
    const Header& theirs = flight.received[static_cast<std::size_t>(q)];
    if (theirs.group != hash_) throw std::runtime_error("another group uses this one's tag: give it another name");
    if (theirs.call != flight.sent.call) throw RanksDisagree(rank(), flight.sent.call, q, theirs.call);
  }

  // Receives the values of every rank whose header has come; whether all have.
  bool TakeHeaders(Flight& flight, const std::vector<Bytes>& to) const {
    int count = 0;
    flight.come.resize(flight.headers.size());
    CheckMpi(MPI_Testsome(static_cast<int>(flight.headers.size()), flight.headers.data(), &count, flight.come.data(),
                          MPI_STATUSES_IGNORE),
             "MPI_Testsome");
    for (int i = 0; i < count && count != MPI_UNDEFINED; ++i) {
      const std::int64_t q = Source(flight.come[static_cast<std::size_t>(i)] + 1);
      CheckHeader(flight, q);
      ReceiveValues(flight, q, to[static_cast<std::size_t>(q)]);
    }
    return std::all_of(flight.headers.begin(), flight.headers.end(),
                       [](MPI_Request request) { return request == MPI_REQUEST_NULL; });
  }

  static bool ValuesAreDone(Flight& flight) {
    int done = 0;
    CheckMpi(MPI_Testall(static_cast<int>(flight.values.size()), flight.values.data(), &done, MPI_STATUSES_IGNORE),
             "MPI_Testall");
    return done != 0;
  }

  // The ranks whose header has not come, as "1, 3".
  std::string Silent(const Flight& flight) const {
    std::string text;
    for (std::size_t i = 0; i < flight.headers.size(); ++i) {
      if (flight.headers[i] == MPI_REQUEST_NULL) continue;
      text += (text.empty() ? "" : ", ") + std::to_string(Source(static_cast<std::int64_t>(i) + 1));
    }
    return text;
  }

  std::int64_t Source(std::int64_t step) const { return (rank() + size() - step) % size(); }
  std::int64_t Target(std::int64_t step) const { return (rank() + step) % size(); }

  void Transfer(Flight& flight, const std::vector<Bytes>& to, const std::vector<Bytes>& from) const {
    const auto end = Clock::now() + deadline();
    for (std::int64_t step = 1; step < size(); ++step) ReceiveHeader(flight, Source(step));
    for (std::int64_t step = 1; step < size(); ++step) {
      Send(flight, Target(step), from[static_cast<std::size_t>(Target(step))]);
    }
    if (!Poll(end, [&] { return TakeHeaders(flight, to); })) {
      throw std::runtime_error("nothing came from rank " + Silent(flight));
    }
    // While the others' values are under way.
    const Bytes own = from[static_cast<std::size_t>(rank())];
    if (own.size > 0)
      std::memcpy(to[static_cast<std::size_t>(rank())].data, own.data, static_cast<std::size_t>(own.size));
    if (!Poll(end, [&] { return ValuesAreDone(flight); })) {
      throw std::runtime_error("every rank made this call, but not all values came or went");
    }
  }

  // Entry q of `from` goes to rank q, entry q of `to` comes from there. `operands` own the memory.
  void Exchange(const CallSignature& call, std::vector<at::Tensor> operands, const std::vector<Bytes>& to,
                const std::vector<Bytes>& from) {
    CheckUsable(operands.back());
    auto flight = std::make_unique<Flight>();
    flight->operands = std::move(operands);
    flight->sent = {hash_, call};
    flight->received.resize(static_cast<std::size_t>(size()));
    try {
      Transfer(*flight, to, from);
    } catch (...) {
      // MPI may yet touch the memory, and a send cannot be taken back: keep it for good.
      static auto* abandoned = new std::vector<std::unique_ptr<Flight>>;
      static std::mutex mutex;
      const std::lock_guard lock(mutex);
      abandoned->push_back(std::move(flight));
      broken_ = true;
      TheWorld().broken = true;
      throw;
    }
  }

  // `x` cut into one piece for each rank; all pieces but the last ones have `length` elements.
  std::vector<Bytes> Pieces(at::Tensor& x, std::int64_t length) const {
    const auto element = static_cast<std::int64_t>(x.element_size());
    std::vector<Bytes> pieces;
    for (std::int64_t q = 0; q < size(); ++q) {
      const std::int64_t begin = std::min(q * length, x.numel());
      const std::int64_t end = std::min(begin + length, x.numel());
      pieces.push_back({static_cast<char*>(x.data_ptr()) + begin * element, (end - begin) * element});
    }
    return pieces;
  }

  std::vector<Bytes> ToAll(at::Tensor& x) const {
    return std::vector<Bytes>(static_cast<std::size_t>(size()),
                              Bytes{static_cast<char*>(x.data_ptr()), static_cast<std::int64_t>(x.nbytes())});
  }

  // This rank's piece of everyone's `x`, reduced.
  at::Tensor ReducedPiece(const CallSignature& call, at::Tensor& x, std::int64_t length, Reduction reduction) {
    const std::int64_t own = std::min(length, std::max<std::int64_t>(0, x.numel() - rank() * length));
    at::Tensor terms = at::empty({size(), own}, x.options());
    Exchange(call, {terms, x}, Pieces(terms, own), Pieces(x, length));
    return ReduceInRankOrder(terms.unbind(0), reduction);
  }

  void DoAllToAll(const CallSignature& call, at::Tensor& result, at::Tensor& x) override {
    const std::int64_t length = x.numel() / size();
    Exchange(call, {result, x}, Pieces(result, length), Pieces(x, length));
  }

  void DoAllGather(const CallSignature& call, at::Tensor& result, at::Tensor& x) override {
    Exchange(call, {result, x}, Pieces(result, x.numel()), ToAll(x));
  }

  void DoReduceScatter(const CallSignature& call, at::Tensor& result, at::Tensor& x, Reduction reduction) override {
    result.copy_(ReducedPiece(call, x, x.numel() / size(), reduction));
  }

  void DoAllReduce(const CallSignature& call, at::Tensor& in_out, Reduction reduction) override {
    const std::int64_t length = (in_out.numel() + size() - 1) / size();
    at::Tensor piece = ReducedPiece(call, in_out, length, reduction);
    Exchange(call, {in_out, piece}, Pieces(in_out, length), ToAll(piece));
  }

  std::vector<int> world_ranks_;
  std::uint64_t hash_;
  int tag_;
  std::thread::id owner_;
  bool broken_ = false;
};

Diagnostic Refusal(DiagnosticCode code, std::string message, std::string hint) {
  return {
      .code = code, .message = std::move(message), .location = {}, .subject = {}, .notes = {}, .hint = std::move(hint)};
}

}  // namespace

Status InitializeMpi() {
  try {
    StartWorld();
    return Status::Ok();
  } catch (const std::exception& error) {
    return Refusal(DiagnosticCode::kCollectiveFailed, std::string("MPI does not start: ") + error.what(),
                   "start the program with mpirun");
  }
}

Expected<GroupPosition> MpiWorld() {
  const World& world = TheWorld();
  if (world.comm != MPI_COMM_NULL) return GroupPosition{world.rank, world.size};
  return Refusal(DiagnosticCode::kNoProcessGroup, "MPI is not initialized",
                 "call autosp::runtime::InitializeMpi in every process, and start the program with mpirun");
}

Expected<std::unique_ptr<Communicator>> MakeMpiCommunicator(const std::string& name, std::chrono::milliseconds deadline,
                                                            std::vector<std::int64_t> world_ranks) {
  AUTOSP_ASSIGN_OR_RETURN(const GroupPosition here, MpiWorld());
  if (world_ranks.empty()) {
    world_ranks.resize(static_cast<std::size_t>(here.size));
    std::iota(world_ranks.begin(), world_ranks.end(), 0);
  }
  std::string identity = name;
  std::vector<int> ranks;
  for (const std::int64_t rank : world_ranks) {
    if (rank < 0 || rank >= here.size || std::count(world_ranks.begin(), world_ranks.end(), rank) != 1) {
      return Refusal(
          DiagnosticCode::kBadOption,
          "group \"" + name + "\" names rank " + std::to_string(rank) +
              (rank < 0 || rank >= here.size ? ", the job has ranks 0 to " + std::to_string(here.size - 1) : ", twice"),
          "name ranks of MPI_COMM_WORLD, each once");
    }
    ranks.push_back(static_cast<int>(rank));
    identity += "," + std::to_string(rank);
  }
  const auto self = std::find(world_ranks.begin(), world_ranks.end(), here.rank);
  if (self == world_ranks.end()) {
    return Refusal(DiagnosticCode::kBadOption,
                   "rank " + std::to_string(here.rank) + " makes an end of group \"" + name + "\", which it is not in",
                   "make the communicator on the ranks of its group only");
  }
  static std::mutex mutex;
  static std::map<std::string, std::int64_t> made;
  const std::lock_guard lock(mutex);
  identity += "#" + std::to_string(made[identity]++);
  return std::unique_ptr<Communicator>(
      std::make_unique<MpiCommunicator>(name, self - world_ranks.begin(), std::move(ranks), deadline, Hash(identity)));
}

}  // namespace autosp::runtime
