// A stand-in for NCCL whose ranks are threads and whose device memory is the host's. As with NCCL, a call only puts an
// operation on a stream; it is done once every rank has put the same one. Operations that do not fit together, or lack
// a rank, are never done.
#pragma once

#include "nccl_library.h"

#include <atomic>
#include <memory>

namespace autosp::runtime::fake_nccl {

NcclFunctions Functions(bool with_all_to_all);
std::unique_ptr<DeviceQueue> MakeQueue();

// What has happened, and what is to go wrong. One at a time: NCCL's functions carry no state of ours.
struct Script {
  std::atomic<ncclResult_t> all_gather_result{ncclSuccess};
  std::atomic<ncclResult_t> async_result{ncclSuccess};
  std::atomic<int> aborts{0};
  std::atomic<int> grouped_sends{0};
  std::atomic<int> all_to_alls{0};
};
Script& TheScript();

}  // namespace autosp::runtime::fake_nccl
