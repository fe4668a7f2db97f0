#include <autosp/runtime/communicator.h>

#include <ATen/ops/maximum.h>
#include <ATen/ops/minimum.h>

#include <condition_variable>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>

namespace autosp::runtime {
namespace {

// What the ranks of one group share: a barrier, and one slot per rank that is readable between two barriers.
class Meeting {
 public:
  explicit Meeting(std::int64_t size) : slots_(static_cast<std::size_t>(size)) {}

  const at::Tensor& slot(std::int64_t rank) const { return slots_[static_cast<std::size_t>(rank)]; }

  void Arrive(std::int64_t rank, const at::Tensor& x, std::chrono::milliseconds deadline) {
    slots_[static_cast<std::size_t>(rank)] = x;
    Barrier(deadline);
  }

  void Barrier(std::chrono::milliseconds deadline) {
    std::unique_lock lock(mutex_);
    if (broken_) throw std::runtime_error("an earlier collective of this group failed");
    const std::int64_t round = round_;
    if (++arrived_ == static_cast<std::int64_t>(slots_.size())) {
      arrived_ = 0;
      ++round_;
      changed_.notify_all();
      return;
    }
    changed_.wait_for(lock, deadline, [&] { return round_ != round || broken_; });
    if (round_ != round) return;
    const std::string text =
        broken_ ? "another rank gave up"
                : std::to_string(arrived_) + " of " + std::to_string(slots_.size()) + " ranks came to the barrier";
    broken_ = true;
    changed_.notify_all();
    throw std::runtime_error(text);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<at::Tensor> slots_;
  std::int64_t arrived_ = 0;
  std::int64_t round_ = 0;
  bool broken_ = false;
};

class InProcessCommunicator final : public Communicator {
 public:
  InProcessCommunicator(const std::string& name, std::int64_t rank, std::int64_t size,
                        std::chrono::milliseconds deadline, std::shared_ptr<Meeting> meeting)
      : Communicator(name, rank, size, deadline), meeting_(std::move(meeting)) {}

 private:
  // `read` runs while every rank's operand stands still. Ranks are read in order, so that all get equal sums.
  template <typename F>
  void Exchange(const at::Tensor& x, const F& read) {
    meeting_->Arrive(rank(), x, deadline());
    for (std::int64_t q = 0; q < size(); ++q) read(q, meeting_->slot(q));
    meeting_->Barrier(deadline());
  }

  static at::Tensor Combine(const at::Tensor& a, const at::Tensor& b, Reduction reduction) {
    switch (reduction) {
      case Reduction::kMax:
        return at::maximum(a, b);
      case Reduction::kMin:
        return at::minimum(a, b);
      case Reduction::kSum:
        break;
    }
    return a.add(b);
  }

  at::Tensor Part(const at::Tensor& flat, std::int64_t q) const { return flat.view({size(), -1}).select(0, q); }

  void DoAllToAll(at::Tensor& result, at::Tensor& x) override {
    Exchange(x, [&](std::int64_t q, const at::Tensor& other) { Part(result, q).copy_(Part(other, rank())); });
  }

  void DoAllGather(at::Tensor& result, at::Tensor& x) override {
    Exchange(x, [&](std::int64_t q, const at::Tensor& other) { Part(result, q).copy_(other); });
  }

  void DoReduceScatter(at::Tensor& result, at::Tensor& x, Reduction reduction) override {
    Exchange(x, [&](std::int64_t q, const at::Tensor& other) {
      const at::Tensor part = Part(other, rank());
      result.copy_(q == 0 ? part : Combine(result, part, reduction));
    });
  }

  void DoAllReduce(at::Tensor& in_out, Reduction reduction) override {
    at::Tensor total;
    Exchange(in_out, [&](std::int64_t q, const at::Tensor& other) {
      total = q == 0 ? other.clone() : Combine(total, other, reduction);
    });
    in_out.copy_(total);
  }

  std::shared_ptr<Meeting> meeting_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> MakeInProcessGroup(const std::string& name, std::int64_t size,
                                                              std::chrono::milliseconds deadline) {
  auto meeting = std::make_shared<Meeting>(size);
  std::vector<std::unique_ptr<Communicator>> ends;
  for (std::int64_t rank = 0; rank < size; ++rank) {
    ends.push_back(std::make_unique<InProcessCommunicator>(name, rank, size, deadline, meeting));
  }
  return ends;
}

}  // namespace autosp::runtime
