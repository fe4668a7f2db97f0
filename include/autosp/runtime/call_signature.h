#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace autosp::runtime {

enum class Reduction : std::uint8_t { kSum, kMax, kMin };
enum class CollectiveOp : std::uint8_t { kAllToAll, kAllGather, kReduceScatter, kAllReduce };
const char* ToString(CollectiveOp op);  // "all_to_all"

// What a rank asks of its group, in a form of fixed size that can travel ahead of the values. All ranks of a group must
// ask the same: a back end compares the signatures and throws RanksDisagree on every rank where they differ.
struct CallSignature {
  static constexpr std::size_t kSizes = 8;

  std::array<std::int64_t, kSizes> sizes{};  // of the operand; the product of those that are not listed in the last
  std::int32_t dims = 0;
  CollectiveOp op = CollectiveOp::kAllToAll;
  Reduction reduction = Reduction::kSum;
  std::int8_t dtype = 0;
  std::uint8_t reserved = 0;

  friend bool operator==(const CallSignature&, const CallSignature&) = default;
};

CallSignature MakeCallSignature(CollectiveOp op, const at::Tensor& x, Reduction reduction = Reduction::kSum);
std::string ToString(const CallSignature& call);  // "reduce_scatter(Float[2, 3], sum)"

class RanksDisagree : public std::runtime_error {
 public:
  // `rank` asks for `call`, `other_rank` for `other`.
  RanksDisagree(std::int64_t rank, const CallSignature& call, std::int64_t other_rank, const CallSignature& other);
};

}  // namespace autosp::runtime
