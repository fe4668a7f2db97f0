#include "store_agreement.h"

#include <cstring>
#include <thread>
#include <utility>
#include <vector>

namespace autosp::runtime {
namespace {

constexpr std::chrono::microseconds kPause{200};

}  // namespace

// Not by Store::wait: a TCPStore has one connection, which a wait holds. Two groups that meet in two threads would each
// keep the other's key from being set.
bool Await(c10d::Store& store, const std::vector<std::string>& keys, std::chrono::milliseconds deadline) {
  const auto end = std::chrono::steady_clock::now() + deadline;
  while (!store.check(keys)) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(kPause);
  }
  return true;
}

void StoreAgreement::Check(const CallSignature& call, std::chrono::milliseconds deadline) {
  const std::lock_guard lock(mutex_);
  if (broken_) throw std::runtime_error("an earlier collective of this group failed");
  const std::int64_t number = calls_++;
  const char* bytes = reinterpret_cast<const char*>(&call);
  std::string signature(bytes, sizeof(call));
  if (agreed_.contains(signature)) return;
  broken_ = true;  // until the ranks agree

  const auto key = [&](std::int64_t rank) {
    return prefix_ + "/" + std::to_string(number) + "/" + std::to_string(rank);
  };
  store_->set(key(rank_), std::vector<std::uint8_t>(signature.begin(), signature.end()));
  std::vector<std::string> others;
  for (std::int64_t q = 0; q < size_; ++q) {
    if (q != rank_) others.push_back(key(q));
  }
  if (!Await(*store_, others, deadline)) {
    throw std::runtime_error("not every rank came to call " + std::to_string(number) + " of this group with " +
                             ToString(call) + ", which is new on this rank");
  }
  for (std::int64_t q = 0; q < size_; ++q) {
    if (q == rank_) continue;
    const std::vector<std::uint8_t> theirs = store_->get(key(q));
    CallSignature other;
    if (theirs.size() != sizeof(other)) throw std::runtime_error("rank " + std::to_string(q) + " runs another version");
    std::memcpy(&other, theirs.data(), sizeof(other));
    if (other != call) throw RanksDisagree(rank_, call, q, other);
  }
  broken_ = false;
  agreed_.insert(std::move(signature));
}

}  // namespace autosp::runtime
