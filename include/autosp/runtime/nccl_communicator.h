#pragma once

#include <autosp/runtime/communicator.h>
#include <autosp/support/status.h>

#include <c10/core/Device.h>
#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

namespace c10d {
class Store;
}

// Communicators over NCCL without torch.distributed, in the library autosp_nccl, which alone links libnccl. Needs no
// CUDA header to include.
namespace autosp::runtime {

// The version of the NCCL that is loaded, "2.28.9".
std::string NcclVersion();

// This rank's end of a group whose ranks share `store` (a TCPStore or FileStore; `name` must be new to it). Waits for
// all ranks, at most until the deadline. CUDA tensors of `device` only.
//
// Values move on a stream of the communicator's own, after what the caller's current stream has done so far. A call
// returns when they have arrived, so that the deadline is kept and an error belongs to the call that failed: when it
// passes, or NCCL reports an error, the communicator is aborted.
Expected<std::unique_ptr<Communicator>> MakeNcclCommunicator(const std::string& name, std::int64_t rank,
                                                             std::int64_t size, c10::Device device,
                                                             const c10::intrusive_ptr<c10d::Store>& store,
                                                             std::chrono::milliseconds deadline);

}  // namespace autosp::runtime
