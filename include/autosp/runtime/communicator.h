#pragma once

#include <autosp/runtime/call_signature.h>
#include <autosp/support/status.h>

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace autosp::runtime {

const char* ToString(Reduction reduction);                       // "sum"
Expected<Reduction> ReductionFromString(std::string_view text);  // kBadOption lists what is allowed

// One rank's end of a group of ranks. Collectives are functional: they leave their operand alone and return a fresh,
// contiguous tensor, in stream order where the device has streams. Every rank must make the same calls in the same
// order, from one thread at a time; a rank that makes another call (op, reduction, dtype or sizes) is an error on all
// of them, never wrong bytes. bool is reduced as a truth value: sum and max are "or", min is "and".
//
// A failure is kCollectiveFailed, or kRankTimeout once the deadline has passed; the message names the op, group, rank,
// bytes and deadline and carries the library's own text. Make no further calls on a group that has failed: its ranks no
// longer agree on what comes next.
class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  const std::string& name() const { return name_; }
  std::int64_t rank() const { return rank_; }
  std::int64_t size() const { return size_; }
  std::chrono::milliseconds deadline() const { return deadline_; }

  // [P, ...] -> [P, ...]: entry q goes to rank q; entry q of the result came from rank q.
  Expected<at::Tensor> AllToAll(const at::Tensor& x);
  // [...] -> [P, ...]
  Expected<at::Tensor> AllGather(const at::Tensor& x);
  // [P, ...] -> [...]: the reduction of everyone's entry `rank`.
  Expected<at::Tensor> ReduceScatter(const at::Tensor& x, Reduction reduction);
  Expected<at::Tensor> AllReduce(const at::Tensor& x, Reduction reduction);

 protected:
  Communicator(std::string name, std::int64_t rank, std::int64_t size, std::chrono::milliseconds deadline)
      : name_(std::move(name)), rank_(rank), size_(size), deadline_(deadline) {}

 private:
  // Operands are contiguous, moved bytes are of a dtype that every library knows (uint8 for what it only carries, real
  // numbers for reductions), and P > 1. A back end makes sure that every rank asks for `call`, then moves the values;
  // operands may be empty. It throws on failure; nothing leaves this class.
  virtual void DoAllToAll(const CallSignature& call, at::Tensor& result, at::Tensor& x) = 0;
  virtual void DoAllGather(const CallSignature& call, at::Tensor& result, at::Tensor& x) = 0;
  virtual void DoReduceScatter(const CallSignature& call, at::Tensor& result, at::Tensor& x, Reduction reduction) = 0;
  virtual void DoAllReduce(const CallSignature& call, at::Tensor& in_out, Reduction reduction) = 0;

  template <typename F>
  Status Guarded(const char* op, const at::Tensor& x, const F& call) const;
  Status CheckLeadingDim(const char* op, const at::Tensor& x) const;

  std::string name_;
  std::int64_t rank_;
  std::int64_t size_;
  std::chrono::milliseconds deadline_;
};

// The process group that torch.distributed registered under `group`, for tensors on `device`. `deadline` unset: the
// group's own timeout. NCCL waits in stream order, so there the group's own timeout, kept by its watchdog, is the
// deadline in any case. An unknown name is kNoProcessGroup.
Expected<std::unique_ptr<Communicator>> ResolveC10dCommunicator(
    const std::string& group, at::DeviceType device, std::optional<std::chrono::milliseconds> deadline = std::nullopt);

// This rank and the number of ranks of a registered process group.
struct GroupPosition {
  std::int64_t rank = 0;
  std::int64_t size = 1;
};
Expected<GroupPosition> ResolveC10dPosition(const std::string& group);

// `size` ends of one group whose ranks are threads of this process, for tests. CPU tensors only.
std::vector<std::unique_ptr<Communicator>> MakeInProcessGroup(const std::string& name, std::int64_t size,
                                                              std::chrono::milliseconds deadline);

}  // namespace autosp::runtime
