#pragma once

#include <autosp/runtime/communicator.h>

#include <c10/util/intrusive_ptr.h>
#include <nccl.h>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <memory>
#include <string>

// What the NCCL back end needs of NCCL and of the device, so that its logic can be tested where there is neither.
namespace autosp::runtime {

// ncclAlltoAll is there from 2.28.
#define AUTOSP_NCCL_HAS_ALL_TO_ALL (NCCL_VERSION_CODE >= NCCL_VERSION(2, 28, 0))

struct NcclFunctions {
  decltype(&ncclGetUniqueId) get_unique_id;
  decltype(&ncclCommInitRankConfig) init_rank;
  decltype(&ncclCommDestroy) destroy;
  decltype(&ncclCommAbort) abort;
  decltype(&ncclCommGetAsyncError) async_error;
  decltype(&ncclGetErrorString) error_string;
  decltype(&ncclGetLastError) last_error;
  decltype(&ncclGroupStart) group_start;
  decltype(&ncclGroupEnd) group_end;
  decltype(&ncclSend) send;
  decltype(&ncclRecv) recv;
  decltype(&ncclAllGather) all_gather;
  decltype(&ncclReduceScatter) reduce_scatter;
  decltype(&ncclAllReduce) all_reduce;
#if AUTOSP_NCCL_HAS_ALL_TO_ALL
  decltype(&ncclAlltoAll) all_to_all;  // null: grouped sends and receives
#else
  void* all_to_all;
#endif
};

// Those of the library that is linked.
const NcclFunctions& LinkedNccl();

// The communicator's stream.
class DeviceQueue {
 public:
  virtual ~DeviceQueue() = default;
  virtual cudaStream_t stream() = 0;
  // What is put on the stream from now on comes after the caller's work so far, and may use `tensors`.
  virtual void Enter(const std::vector<at::Tensor>& tensors) = 0;
  // Ends what Enter began.
  virtual void Leave() = 0;
  // Whether the work up to the last Leave is done.
  virtual bool Done() = 0;
};

std::unique_ptr<DeviceQueue> MakeCudaQueue(c10::Device device);

Expected<std::unique_ptr<Communicator>> MakeNcclCommunicatorOver(const NcclFunctions& nccl,
                                                                 std::unique_ptr<DeviceQueue> queue,
                                                                 const std::string& name, std::int64_t rank,
                                                                 std::int64_t size, c10::Device device,
                                                                 const c10::intrusive_ptr<c10d::Store>& store,
                                                                 std::chrono::milliseconds deadline);

}  // namespace autosp::runtime
