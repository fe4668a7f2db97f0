#include "fake_nccl.h"

#include <ATen/ATen.h>

#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace autosp::runtime::fake_nccl {
namespace {

enum class Kind : std::uint8_t { kSendRecv, kAllToAll, kAllGather, kReduceScatter, kAllReduce };

struct Stream {
  std::atomic<int> pending{0};
};

struct Message {
  void* data = nullptr;
  std::size_t count = 0;
};

struct Operation {
  Kind kind = Kind::kSendRecv;
  const void* from = nullptr;
  void* to = nullptr;
  std::size_t count = 0;
  ncclDataType_t dtype = ncclUint8;
  ncclRedOp_t reduction = ncclSum;
  std::map<int, Message> sends, receives;  // by peer
  Stream* stream = nullptr;
};

struct World {
  int size = 0;
  int joined = 0;
  std::map<int, std::map<int, Operation>> rounds;  // by number, by rank
};

struct Comm {
  World* world = nullptr;
  int rank = 0;
  int next_round = 0;
};

std::mutex& Mutex() {
  static std::mutex mutex;
  return mutex;
}

World& WorldOf(const ncclUniqueId& id) {
  static std::map<std::string, World> worlds;
  return worlds[std::string(id.internal, sizeof(int))];
}

Comm& Of(ncclComm_t comm) { return *reinterpret_cast<Comm*>(comm); }

at::ScalarType ToTorch(ncclDataType_t dtype) {
  switch (dtype) {
    case ncclInt8:
      return at::kChar;
    case ncclInt32:
      return at::kInt;
    case ncclInt64:
      return at::kLong;
    case ncclFloat16:
      return at::kHalf;
    case ncclBfloat16:
      return at::kBFloat16;
    case ncclFloat32:
      return at::kFloat;
    case ncclFloat64:
      return at::kDouble;
    default:
      return at::kByte;
  }
}

at::Tensor View(const void* data, std::size_t count, ncclDataType_t dtype) {
  return at::from_blob(const_cast<void*>(data), {static_cast<std::int64_t>(count)}, ToTorch(dtype));
}

at::Tensor Total(const std::map<int, Operation>& operations, std::size_t count) {
  at::Tensor total;
  for (const auto& [rank, operation] : operations) {
    const at::Tensor term = View(operation.from, count, operation.dtype);
    total = !total.defined()                 ? term.clone()
            : operation.reduction == ncclSum ? total + term
            : operation.reduction == ncclMax ? at::maximum(total, term)
                                             : at::minimum(total, term);
  }
  return total;
}

bool Fit(const std::map<int, Operation>& operations) {
  const Operation& first = operations.begin()->second;
  for (const auto& [rank, each] : operations) {
    if (each.kind != first.kind || each.count != first.count || each.dtype != first.dtype) return false;
    for (const auto& [peer, message] : each.sends) {
      const auto& receives = operations.at(peer).receives;
      if (!receives.contains(rank) || receives.at(rank).count != message.count) return false;
    }
  }
  return true;
}

void Perform(std::map<int, Operation>& operations) {
  const auto size = operations.size();
  const at::Tensor total =
      operations.begin()->second.kind >= Kind::kReduceScatter
          ? Total(operations, operations.begin()->second.count *
                                  (operations.begin()->second.kind == Kind::kReduceScatter ? size : 1))
          : at::Tensor();
  for (auto& [rank, each] : operations) {
    char* to = static_cast<char*>(each.to);
    const auto self = static_cast<std::size_t>(rank);
    for (auto& [other_rank, other] : operations) {
      const auto peer = static_cast<std::size_t>(other_rank);
      const char* from = static_cast<const char*>(other.from);
      if (each.kind == Kind::kAllToAll) std::memcpy(to + peer * each.count, from + self * each.count, each.count);
      if (each.kind == Kind::kAllGather) std::memcpy(to + peer * each.count, from, each.count);
      if (each.kind == Kind::kSendRecv)
        std::memcpy(each.receives[other_rank].data, other.sends[rank].data, other.sends[rank].count);
    }
    if (each.kind == Kind::kReduceScatter) {
      View(each.to, each.count, each.dtype)
          .copy_(total.narrow(0, rank * static_cast<std::int64_t>(each.count), static_cast<std::int64_t>(each.count)));
    }
  }
  // In place: only once all terms are read.
  for (auto& [rank, each] : operations) {
    if (each.kind == Kind::kAllReduce) View(each.to, each.count, each.dtype).copy_(total);
    --each.stream->pending;
  }
}

ncclResult_t Put(ncclComm_t comm, cudaStream_t stream, Operation operation) {
  const std::lock_guard lock(Mutex());
  Comm& self = Of(comm);
  operation.stream = reinterpret_cast<Stream*>(stream);
  ++operation.stream->pending;
  auto& round = self.world->rounds[self.next_round++];
  round.emplace(self.rank, std::move(operation));
  if (static_cast<int>(round.size()) == self.world->size && Fit(round)) Perform(round);
  return ncclInProgress;  // As a nonblocking communicator may.
}

struct Group {
  Operation operation;
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
};
thread_local Group group;

ncclResult_t GetUniqueId(ncclUniqueId* id) {
  static std::atomic<int> next{1};
  const int number = next++;
  std::memset(id->internal, 0, sizeof(id->internal));
  std::memcpy(id->internal, &number, sizeof(number));
  return ncclSuccess;
}

ncclResult_t InitRank(ncclComm_t* comm, int size, ncclUniqueId id, int rank, ncclConfig_t* config) {
  if (config->blocking != 0) return ncclInvalidArgument;
  const std::lock_guard lock(Mutex());
  World& world = WorldOf(id);
  world.size = size;
  ++world.joined;
  *comm = reinterpret_cast<ncclComm_t>(new Comm{&world, rank});
  return ncclInProgress;
}

ncclResult_t Destroy(ncclComm_t comm) {
  delete &Of(comm);
  return ncclSuccess;
}

ncclResult_t Abort(ncclComm_t comm) {
  const std::lock_guard lock(Mutex());
  ++TheScript().aborts;
  // Its memory is no longer its own: what the others wait for is never done.
  for (auto& [number, round] : Of(comm).world->rounds) {
    if (static_cast<int>(round.size()) < Of(comm).world->size) round.erase(Of(comm).rank);
  }
  Of(comm).world->size = 1 << 20;
  delete &Of(comm);
  return ncclSuccess;
}

ncclResult_t AsyncError(ncclComm_t comm, ncclResult_t* state) {
  const std::lock_guard lock(Mutex());
  const World& world = *Of(comm).world;
  *state = world.joined < world.size && world.size < (1 << 20) ? ncclInProgress : TheScript().async_result.load();
  return ncclSuccess;
}

const char* ErrorString(ncclResult_t result) {
  return result == ncclInvalidArgument ? "invalid argument"
         : result == ncclRemoteError   ? "remote process exited"
                                       : "other";
}
const char* LastError(ncclComm_t) { return "the detail"; }

ncclResult_t GroupStart() {
  group = {};
  return ncclSuccess;
}

ncclResult_t GroupEnd() { return Put(group.comm, group.stream, std::move(group.operation)); }

ncclResult_t Send(const void* from, std::size_t count, ncclDataType_t, int peer, ncclComm_t comm, cudaStream_t stream) {
  ++TheScript().grouped_sends;
  group.comm = comm;
  group.stream = stream;
  group.operation.sends[peer] = {const_cast<void*>(from), count};
  return ncclSuccess;
}

ncclResult_t Recv(void* to, std::size_t count, ncclDataType_t, int peer, ncclComm_t, cudaStream_t) {
  group.operation.receives[peer] = {to, count};
  return ncclSuccess;
}

#if AUTOSP_NCCL_HAS_ALL_TO_ALL
ncclResult_t AllToAll(const void* from, void* to, std::size_t count, ncclDataType_t dtype, ncclComm_t comm,
                      cudaStream_t stream) {
  ++TheScript().all_to_alls;
  return Put(
      comm, stream,
      {.kind = Kind::kAllToAll, .from = from, .to = to, .count = count, .dtype = dtype, .sends = {}, .receives = {}});
}
#endif

ncclResult_t AllGather(const void* from, void* to, std::size_t count, ncclDataType_t dtype, ncclComm_t comm,
                       cudaStream_t stream) {
  if (const ncclResult_t result = TheScript().all_gather_result; result != ncclSuccess) return result;
  return Put(
      comm, stream,
      {.kind = Kind::kAllGather, .from = from, .to = to, .count = count, .dtype = dtype, .sends = {}, .receives = {}});
}

ncclResult_t ReduceScatter(const void* from, void* to, std::size_t count, ncclDataType_t dtype, ncclRedOp_t reduction,
                           ncclComm_t comm, cudaStream_t stream) {
  return Put(comm, stream,
             {.kind = Kind::kReduceScatter,
              .from = from,
              .to = to,
              .count = count,
              .dtype = dtype,
              .reduction = reduction,
              .sends = {},
              .receives = {}});
}

ncclResult_t AllReduce(const void* from, void* to, std::size_t count, ncclDataType_t dtype, ncclRedOp_t reduction,
                       ncclComm_t comm, cudaStream_t stream) {
  return Put(comm, stream,
             {.kind = Kind::kAllReduce,
              .from = from,
              .to = to,
              .count = count,
              .dtype = dtype,
              .reduction = reduction,
              .sends = {},
              .receives = {}});
}

class Queue final : public DeviceQueue {
 public:
  cudaStream_t stream() override { return reinterpret_cast<cudaStream_t>(&stream_); }
  void Enter(const std::vector<at::Tensor>&) override {}
  void Leave() override {}
  bool Done() override { return stream_.pending == 0; }

 private:
  Stream stream_;
};

}  // namespace

Script& TheScript() {
  static Script script;
  return script;
}

std::unique_ptr<DeviceQueue> MakeQueue() { return std::make_unique<Queue>(); }

NcclFunctions Functions(bool with_all_to_all) {
  NcclFunctions functions{.get_unique_id = &GetUniqueId,
                          .init_rank = &InitRank,
                          .destroy = &Destroy,
                          .abort = &Abort,
                          .async_error = &AsyncError,
                          .error_string = &ErrorString,
                          .last_error = &LastError,
                          .group_start = &GroupStart,
                          .group_end = &GroupEnd,
                          .send = &Send,
                          .recv = &Recv,
                          .all_gather = &AllGather,
                          .reduce_scatter = &ReduceScatter,
                          .all_reduce = &AllReduce,
                          .all_to_all = nullptr};
#if AUTOSP_NCCL_HAS_ALL_TO_ALL
  if (with_all_to_all) functions.all_to_all = &AllToAll;
#endif
  return functions;
}

}  // namespace autosp::runtime::fake_nccl
