#include <autosp/runtime/nccl_communicator.h>

#include "nccl_library.h"
#include "store_agreement.h"

#include <c10/core/DeviceGuard.h>

#include <cstring>
#include <stdexcept>
#include <thread>
#include <utility>

namespace autosp::runtime {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kPollsBeforeSleep = 2000;
constexpr std::chrono::microseconds kSleep{100};

ncclDataType_t ToNccl(at::ScalarType dtype) {
  switch (dtype) {
    case at::kByte:
      return ncclUint8;
    case at::kChar:
      return ncclInt8;
    case at::kInt:
      return ncclInt32;
    case at::kLong:
      return ncclInt64;
    case at::kHalf:
      return ncclFloat16;
    case at::kBFloat16:
      return ncclBfloat16;
    case at::kFloat:
      return ncclFloat32;
    case at::kDouble:
      return ncclFloat64;
    default:
      throw std::runtime_error(std::string("NCCL does not reduce ") + c10::toString(dtype));
  }
}

ncclRedOp_t ToNccl(Reduction reduction) {
  switch (reduction) {
    case Reduction::kMax:
      return ncclMax;
    case Reduction::kMin:
      return ncclMin;
    case Reduction::kSum:
      break;
  }
  return ncclSum;
}

// An NCCL communicator in nonblocking mode, so that nothing NCCL does can outlast the deadline.
class NcclComm {
 public:
  explicit NcclComm(const NcclFunctions& nccl) : nccl_(nccl) {}
  NcclComm(const NcclComm&) = delete;
  NcclComm& operator=(const NcclComm&) = delete;
  ~NcclComm() {
    if (comm_ != nullptr) nccl_.destroy(comm_);
  }

  ncclComm_t get() const {
    if (comm_ == nullptr)
      throw std::runtime_error("the communicator is aborted: an earlier collective of this group failed");
    return comm_;
  }

  void Start(std::int64_t rank, std::int64_t size, const ncclUniqueId& id, Clock::time_point end) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    Check(nccl_.init_rank(&comm_, static_cast<int>(size), id, static_cast<int>(rank), &config),
          "ncclCommInitRankConfig");
    WaitUntil(end, [] { return true; });
  }

  void Check(ncclResult_t result, const char* call) const {
    if (result == ncclSuccess || result == ncclInProgress) return;
    const char* last = nccl_.last_error(comm_);
    throw std::runtime_error(std::string(call) + ": " + nccl_.error_string(result) +
                             (last != nullptr && *last != '\0' ? std::string(" (") + last + ")" : std::string()));
  }

  // Until NCCL has nothing in progress and `done` says so.
  template <typename F>
  void WaitUntil(Clock::time_point end, const F& done) const {
    for (int polls = 0;; ++polls) {
      ncclResult_t state = ncclSuccess;
      Check(nccl_.async_error(get(), &state), "ncclCommGetAsyncError");
      Check(state, "NCCL");
      if (state == ncclSuccess && done()) return;
      if (Clock::now() >= end) throw std::runtime_error("NCCL did not finish, the communicator is aborted");
      if (polls > kPollsBeforeSleep) std::this_thread::sleep_for(kSleep);
    }
  }

  // Ends the kernels that wait for other ranks. Those ranks run into their own deadlines.
  void Abort() {
    if (comm_ != nullptr) nccl_.abort(std::exchange(comm_, nullptr));
  }

 private:
  const NcclFunctions& nccl_;
  ncclComm_t comm_ = nullptr;
};

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(const NcclFunctions& nccl, std::unique_ptr<DeviceQueue> queue, const std::string& name,
                   std::int64_t rank, std::int64_t size, c10::Device device,
                   const c10::intrusive_ptr<c10d::Store>& store, std::chrono::milliseconds deadline)
      : Communicator(name, rank, size, deadline),
        nccl_(nccl),
        queue_(std::move(queue)),
        device_(device),
        agreement_(store, "autosp_nccl/" + name, rank, size),
        comm_(nccl) {}

  void Start(const ncclUniqueId& id) {
    const c10::DeviceGuard guard(device_);
    try {
      comm_.Start(rank(), size(), id, Clock::now() + deadline());
    } catch (...) {
      comm_.Abort();
      throw;
    }
  }

 private:
  // `put` puts one collective on the stream.
  template <typename F>
  void Run(const CallSignature& call, const std::vector<at::Tensor>& tensors, const F& put) {
    const auto end = Clock::now() + deadline();
    const at::Tensor& x = tensors.back();
    if (x.device() != device_) {
      throw std::runtime_error("the group is on " + device_.str() + ", the tensor on " + x.device().str());
    }
    const c10::DeviceGuard guard(device_);
    comm_.get();  // Not aborted.
    try {
      agreement_.Check(call, deadline());
      if (x.numel() == 0) return;
      queue_->Enter(tensors);
      put();
      // Nonblocking NCCL may still be putting the work on the stream.
      comm_.WaitUntil(end, [] { return true; });
      queue_->Leave();
      comm_.WaitUntil(end, [&] { return queue_->Done(); });
    } catch (...) {
      comm_.Abort();
      throw;
    }
  }

  static std::size_t Count(const at::Tensor& x) { return static_cast<std::size_t>(x.numel()); }

  void SendAndReceive(at::Tensor& result, const at::Tensor& x) {
    const std::size_t count = Count(x) / static_cast<std::size_t>(size());
    char* to = static_cast<char*>(result.data_ptr());
    const char* from = static_cast<const char*>(x.const_data_ptr());
    comm_.Check(nccl_.group_start(), "ncclGroupStart");
    for (std::int64_t q = 0; q < size(); ++q) {
      const std::size_t at = static_cast<std::size_t>(q) * count;
      comm_.Check(nccl_.send(from + at, count, ncclUint8, static_cast<int>(q), comm_.get(), queue_->stream()),
                  "ncclSend");
      comm_.Check(nccl_.recv(to + at, count, ncclUint8, static_cast<int>(q), comm_.get(), queue_->stream()),
                  "ncclRecv");
    }
    comm_.Check(nccl_.group_end(), "ncclGroupEnd");
  }

  void DoAllToAll(const CallSignature& call, at::Tensor& result, at::Tensor& x) override {
    Run(call, {result, x}, [&] {
#if AUTOSP_NCCL_HAS_ALL_TO_ALL
      if (nccl_.all_to_all != nullptr) {
        const std::size_t count = Count(x) / static_cast<std::size_t>(size());
        comm_.Check(
            nccl_.all_to_all(x.const_data_ptr(), result.data_ptr(), count, ncclUint8, comm_.get(), queue_->stream()),
            "ncclAlltoAll");
        return;
      }
#endif
      SendAndReceive(result, x);
    });
  }

  void DoAllGather(const CallSignature& call, at::Tensor& result, at::Tensor& x) override {
    Run(call, {result, x}, [&] {
      comm_.Check(
          nccl_.all_gather(x.const_data_ptr(), result.data_ptr(), Count(x), ncclUint8, comm_.get(), queue_->stream()),
          "ncclAllGather");
    });
  }

  void DoReduceScatter(const CallSignature& call, at::Tensor& result, at::Tensor& x, Reduction reduction) override {
    const ncclDataType_t dtype = ToNccl(x.scalar_type());
    Run(call, {result, x}, [&] {
      comm_.Check(nccl_.reduce_scatter(x.const_data_ptr(), result.data_ptr(), Count(result), dtype, ToNccl(reduction),
                                       comm_.get(), queue_->stream()),
                  "ncclReduceScatter");
    });
  }

  void DoAllReduce(const CallSignature& call, at::Tensor& in_out, Reduction reduction) override {
    const ncclDataType_t dtype = ToNccl(in_out.scalar_type());
    Run(call, {in_out}, [&] {
      comm_.Check(nccl_.all_reduce(in_out.const_data_ptr(), in_out.data_ptr(), Count(in_out), dtype, ToNccl(reduction),
                                   comm_.get(), queue_->stream()),
                  "ncclAllReduce");
    });
  }

  const NcclFunctions& nccl_;
  std::unique_ptr<DeviceQueue> queue_;
  c10::Device device_;
  StoreAgreement agreement_;
  NcclComm comm_;
};

// Rank 0 draws the id, the others find it in the store.
ncclUniqueId ShareId(const NcclFunctions& nccl, const std::string& name, std::int64_t rank, c10d::Store& store,
                     std::chrono::milliseconds deadline) {
  const std::string key = "autosp_nccl/" + name + "/id";
  ncclUniqueId id;
  if (rank == 0) {
    NcclComm(nccl).Check(nccl.get_unique_id(&id), "ncclGetUniqueId");
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(&id);
    store.set(key, std::vector<std::uint8_t>(bytes, bytes + sizeof(id)));
    return id;
  }
  if (!Await(store, {key}, deadline)) throw std::runtime_error("rank 0 does not come");
  const std::vector<std::uint8_t> bytes = store.get(key);
  if (bytes.size() != sizeof(id)) throw std::runtime_error("the store holds something else under " + key);
  std::memcpy(&id, bytes.data(), sizeof(id));
  return id;
}

Diagnostic Problem(DiagnosticCode code, std::string message, std::vector<std::string> notes, std::string hint) {
  return {.code = code,
          .message = std::move(message),
          .location = {},
          .subject = {},
          .notes = std::move(notes),
          .hint = std::move(hint)};
}

}  // namespace

Expected<std::unique_ptr<Communicator>> MakeNcclCommunicatorOver(const NcclFunctions& nccl,
                                                                 std::unique_ptr<DeviceQueue> queue,
                                                                 const std::string& name, std::int64_t rank,
                                                                 std::int64_t size, c10::Device device,
                                                                 const c10::intrusive_ptr<c10d::Store>& store,
                                                                 std::chrono::milliseconds deadline) {
  const auto start = Clock::now();
  if (size < 1 || rank < 0 || rank >= size) {
    return Problem(DiagnosticCode::kBadOption,
                   "group \"" + name + "\" has no rank " + std::to_string(rank) + " among " + std::to_string(size), {},
                   "number the ranks of a group from 0 to its size - 1");
  }
  if (store == nullptr) {
    return Problem(DiagnosticCode::kBadOption, "group \"" + name + "\" has no store", {},
                   "give all ranks of the group one c10d::TCPStore or FileStore to meet at");
  }
  try {
    auto result = std::make_unique<NcclCommunicator>(nccl, std::move(queue), name, rank, size, device, store, deadline);
    result->Start(ShareId(nccl, name, rank, *store, deadline));
    return std::unique_ptr<Communicator>(std::move(result));
  } catch (const std::exception& error) {
    const auto* c10_error = dynamic_cast<const c10::Error*>(&error);
    const bool late = Clock::now() - start >= deadline;
    return Problem(late ? DiagnosticCode::kRankTimeout : DiagnosticCode::kCollectiveFailed,
                   "NCCL does not connect group \"" + name + "\", rank " + std::to_string(rank) + " of " +
                       std::to_string(size) + ", deadline " + std::to_string(deadline.count()) + " ms",
                   {std::string("the library says: ") +
                    (c10_error != nullptr ? c10_error->what_without_backtrace() : error.what())},
                   "look at the other ranks, and set NCCL_DEBUG=INFO");
  }
}

Expected<std::unique_ptr<Communicator>> MakeNcclCommunicator(const std::string& name, std::int64_t rank,
                                                             std::int64_t size, c10::Device device,
                                                             const c10::intrusive_ptr<c10d::Store>& store,
                                                             std::chrono::milliseconds deadline) {
  if (!device.is_cuda() || !device.has_index() || !c10::impl::hasDeviceGuardImpl(at::kCUDA) ||
      device.index() >= c10::impl::getDeviceGuardImpl(at::kCUDA)->deviceCount()) {
    return Problem(DiagnosticCode::kBadOption,
                   "NCCL needs a CUDA device, group \"" + name + "\" is given " + device.str(), {},
                   "name a GPU of this machine, for example cuda:0, or use another back end");
  }
  return MakeNcclCommunicatorOver(LinkedNccl(), MakeCudaQueue(device), name, rank, size, device, store, deadline);
}

}  // namespace autosp::runtime
