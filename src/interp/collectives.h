#pragma once

#include <autosp/ir/graph.h>

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

namespace autosp::interp {

// The factor `length` inside tensor dim `dim`, viewed as major x length x minor; see ir/layout.h. Concrete sizes.
struct Factor {
  std::int64_t dim = 0;
  std::int64_t major = 1;
  std::int64_t length = 0;
  std::int64_t minor = 1;

  std::int64_t LocalLength(std::int64_t ranks) const { return (length + ranks - 1) / ranks; }
};

// All differentiable, built from ATen operations; they throw ExecutionError on sizes that do not fit. Results of
// different ranks never share memory.
//
// Block `rank` of a whole tensor; beyond the end the last true element is repeated.
at::Tensor ShardSlice(const at::Tensor& whole, const Factor& factor, std::int64_t rank, std::int64_t ranks);
// The whole tensor, once, from the blocks of all ranks.
at::Tensor Gather(const std::vector<at::Tensor>& shards, const Factor& factor);
// A block whose elements beyond the end are `value`.
at::Tensor MaskPadding(const at::Tensor& shard, const Factor& factor, const c10::Scalar& value, std::int64_t rank,
                       std::int64_t ranks);
// The reduction ("sum", "avg", "max", "min") over the ranks, once.
at::Tensor Reduce(const std::vector<at::Tensor>& terms, std::string_view reduce);

// A node that needs the rank or the other ranks: autosp.* and its lowered forms, and what reads neighbours.
bool IsCollective(std::string_view op);

// The result on every rank. `evaluate` gives an argument's value on one rank.
using RankEvaluator = std::function<c10::IValue(const Argument&, int)>;
std::vector<c10::IValue> RunCollective(const Node& node, int ranks, const RankEvaluator& evaluate);

}  // namespace autosp::interp
