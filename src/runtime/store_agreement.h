#pragma once

#include <autosp/runtime/call_signature.h>

#include <c10/util/intrusive_ptr.h>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_set>
#include <vector>

namespace autosp::runtime {

// Whether all keys are set before the deadline.
bool Await(c10d::Store& store, const std::vector<std::string>& keys, std::chrono::milliseconds deadline);

// Makes sure that all ranks of a group ask for the same call, for libraries that cannot tell: gloo hands over the bytes
// of a shorter message, NCCL hangs. Ranks meet at a store, not in a collective, because a collective can be mistaken
// for the one that it is to protect.
//
// They meet when a signature is used for the first time, so a program that repeats its shapes pays nothing. What that
// catches:
//   1. a rank with another new signature: every rank throws RanksDisagree at once;
//   2. a new signature here, an old one there: this rank waits for the other at the store, the other waits for this one
//      in its collective, both until the deadline; no values are moved;
// after which every later call throws; and what it does not: two signatures, both used before, in another order on two
// ranks.
class StoreAgreement {
 public:
  StoreAgreement(c10::intrusive_ptr<c10d::Store> store, std::string prefix, std::int64_t rank, std::int64_t size)
      : store_(std::move(store)), prefix_(std::move(prefix)), rank_(rank), size_(size) {}

  void Check(const CallSignature& call, std::chrono::milliseconds deadline);

 private:
  c10::intrusive_ptr<c10d::Store> store_;
  std::string prefix_;
  std::int64_t rank_;
  std::int64_t size_;
  std::mutex mutex_;
  std::int64_t calls_ = 0;
  bool broken_ = false;
  std::unordered_set<std::string> agreed_;  // signatures, as bytes
};

}  // namespace autosp::runtime
