#include <autosp/runtime/communicator.h>

#include "rank_order_reduction.h"

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

  const at::Tensor& operand(std::int64_t rank) const { return slots_[static_cast<std::size_t>(rank)].operand; }

  // Returns when every rank has put its operand down; throws on all of them when their calls differ.
  void Arrive(std::int64_t rank, const CallSignature& call, const at::Tensor& x, std::chrono::milliseconds deadline) {
    {
      const std::lock_guard lock(mutex_);
      CheckWhole();  // Others may still read the slots of the call that failed.
      slots_[static_cast<std::size_t>(rank)] = {call, x};
    }
    Barrier(deadline);
    for (std::size_t q = 0; q < slots_.size(); ++q) {
      if (slots_[q].call == call) continue;
      Break();
      throw RanksDisagree(rank, call, static_cast<std::int64_t>(q), slots_[q].call);
    }
  }

  void Barrier(std::chrono::milliseconds deadline) {
    std::unique_lock lock(mutex_);
    CheckWhole();
    const std::int64_t round = round_;
    if (++arrived_ == static_cast<std::int64_t>(slots_.size())) {
      arrived_ = 0;
      ++round_;
      changed_.notify_all();
      return;
    }
    changed_.wait_for(lock, deadline, [&] { return round_ != round || broken_ || left_; });
    if (round_ != round) return;
    std::string text = std::to_string(arrived_) + " of " + std::to_string(slots_.size()) + " ranks came to the barrier";
    if (left_) text = "rank " + std::to_string(*left_) + " is gone";
    if (broken_) text = "another rank gave up";
    broken_ = true;
    changed_.notify_all();
    throw std::runtime_error(text);
  }

  // A rank's end is destroyed: the others need not wait for it.
  void Leave(std::int64_t rank) {
    const std::lock_guard lock(mutex_);
    if (!left_) left_ = rank;
    changed_.notify_all();
  }

 private:
  void CheckWhole() const {
    if (broken_) throw std::runtime_error("an earlier collective of this group failed");
  }

  void Break() {
    const std::lock_guard lock(mutex_);
    broken_ = true;
    changed_.notify_all();
  }

  struct Slot {
    CallSignature call;
    at::Tensor operand;
  };

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Slot> slots_;
  std::int64_t arrived_ = 0;
  std::int64_t round_ = 0;
  std::optional<std::int64_t> left_;
  bool broken_ = false;
};

class InProcessCommunicator final : public Communicator {
 public:
  InProcessCommunicator(const std::string& name, std::int64_t rank, std::int64_t size,
                        std::chrono::milliseconds deadline, std::shared_ptr<Meeting> meeting)
      : Communicator(name, rank, size, deadline), meeting_(std::move(meeting)) {}
  ~InProcessCommunicator() override { meeting_->Leave(rank()); }

 private:
  // `read` runs while every rank's operand stands still.
  template <typename F>
  void Exchange(const CallSignature& call, const at::Tensor& x, const F& read) {
    meeting_->Arrive(rank(), call, x, deadline());
    read();
    meeting_->Barrier(deadline());
  }

  at::Tensor Part(const at::Tensor& flat, std::int64_t q) const {
    return flat.view({size(), flat.numel() / size()}).select(0, q);
  }

  void DoAllToAll(const CallSignature& call, at::Tensor& result, at::Tensor& x) override {
    Exchange(call, x, [&] {
      for (std::int64_t q = 0; q < size(); ++q) Part(result, q).copy_(Part(meeting_->operand(q), rank()));
    });
  }

  void DoAllGather(const CallSignature& call, at::Tensor& result, at::Tensor& x) override {
    Exchange(call, x, [&] {
      for (std::int64_t q = 0; q < size(); ++q) Part(result, q).copy_(meeting_->operand(q));
    });
  }

  void DoReduceScatter(const CallSignature& call, at::Tensor& result, at::Tensor& x, Reduction reduction) override {
    Exchange(call, x, [&] {
      std::vector<at::Tensor> terms;
      for (std::int64_t q = 0; q < size(); ++q) terms.push_back(Part(meeting_->operand(q), rank()));
      result.copy_(ReduceInRankOrder(terms, reduction));
    });
  }

  void DoAllReduce(const CallSignature& call, at::Tensor& in_out, Reduction reduction) override {
    at::Tensor total;
    Exchange(call, in_out, [&] {
      std::vector<at::Tensor> terms;
      for (std::int64_t q = 0; q < size(); ++q) terms.push_back(meeting_->operand(q));
      total = ReduceInRankOrder(terms, reduction);
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
