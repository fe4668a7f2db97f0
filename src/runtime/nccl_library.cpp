#include "nccl_library.h"

#include <autosp/runtime/nccl_communicator.h>

#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <utility>

namespace autosp::runtime {
namespace {

// Through PyTorch's device-neutral streams and events: needs neither the CUDA runtime nor libc10_cuda at link time.
class CudaQueue final : public DeviceQueue {
 public:
  explicit CudaQueue(c10::Device device)
      : guard_(device.type()),
        stream_(guard_.getStreamFromGlobalPool(device)),
        entered_(device.type()),
        left_(device.type()) {}

  cudaStream_t stream() override { return static_cast<cudaStream_t>(stream_.native_handle()); }

  void Enter(const std::vector<at::Tensor>& tensors) override {
    entered_.record(guard_.getStream(stream_.device()));
    entered_.block(stream_);
    for (const at::Tensor& tensor : tensors) guard_.recordDataPtrOnStream(tensor.storage().data_ptr(), stream_);
  }

  void Leave() override { left_.record(stream_); }
  bool Done() override { return left_.query(); }

 private:
  c10::impl::VirtualGuardImpl guard_;
  c10::Stream stream_;
  c10::Event entered_;
  c10::Event left_;
};

}  // namespace

const NcclFunctions& LinkedNccl() {
  static const NcclFunctions kFunctions {
    .get_unique_id = &ncclGetUniqueId, .init_rank = &ncclCommInitRankConfig, .destroy = &ncclCommDestroy,
    .abort = &ncclCommAbort, .async_error = &ncclCommGetAsyncError, .error_string = &ncclGetErrorString,
    .last_error = &ncclGetLastError, .group_start = &ncclGroupStart, .group_end = &ncclGroupEnd, .send = &ncclSend,
    .recv = &ncclRecv, .all_gather = &ncclAllGather, .reduce_scatter = &ncclReduceScatter, .all_reduce = &ncclAllReduce,
#if AUTOSP_NCCL_HAS_ALL_TO_ALL
    .all_to_all = &ncclAlltoAll,
#else
    .all_to_all = nullptr,
#endif
  };
  return kFunctions;
}

std::unique_ptr<DeviceQueue> MakeCudaQueue(c10::Device device) { return std::make_unique<CudaQueue>(device); }

std::string NcclVersion() {
  int version = 0;
  if (ncclGetVersion(&version) != ncclSuccess) return "unknown";
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

}  // namespace autosp::runtime
