#include "collectives.h"

#include "execution_error.h"

#include <ATen/ops/amax.h>
#include <ATen/ops/amin.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>

#include <string>

namespace autosp::interp {
namespace {

std::string Describe(const Factor& factor) {
  return std::to_string(factor.major) + " x " + std::to_string(factor.length) + " x " + std::to_string(factor.minor);
}

// Views dim as three dims; the factor's dim is then factor.dim + 1.
at::Tensor SplitDim(const at::Tensor& tensor, const Factor& factor, std::int64_t length) {
  if (factor.dim < 0 || factor.dim >= tensor.dim()) {
    throw ExecutionError("dim " + std::to_string(factor.dim) + " is outside of " + DescribeValue(tensor));
  }
  if (tensor.size(factor.dim) != factor.major * length * factor.minor) {
    throw ExecutionError("dim " + std::to_string(factor.dim) + " of " + DescribeValue(tensor) + " should be " +
                         std::to_string(factor.major) + " * " + std::to_string(length) + " * " +
                         std::to_string(factor.minor) + " = " + std::to_string(factor.major * length * factor.minor) +
                         " (factor " + Describe(factor) + ")");
  }
  std::vector<std::int64_t> shape = tensor.sizes().vec();
  const auto at_dim = shape.begin() + factor.dim;
  *at_dim = factor.minor;
  shape.insert(shape.begin() + factor.dim, {factor.major, length});
  return tensor.reshape(shape);
}

at::Tensor MergeDim(const at::Tensor& tensor, const Factor& factor) {
  std::vector<std::int64_t> shape = tensor.sizes().vec();
  const auto first = shape.begin() + factor.dim;
  const std::int64_t merged = first[0] * first[1] * first[2];
  shape.erase(first, first + 2);
  shape[static_cast<std::size_t>(factor.dim)] = merged;
  return tensor.reshape(shape);
}

// Global positions of the block of `rank`.
at::Tensor Positions(const Factor& factor, std::int64_t rank, std::int64_t ranks, const at::Tensor& like) {
  const std::int64_t local = factor.LocalLength(ranks);
  return at::arange(rank * local, (rank + 1) * local, like.options().dtype(c10::kLong).requires_grad(false));
}

}  // namespace

at::Tensor ShardSlice(const at::Tensor& whole, const Factor& factor, std::int64_t rank, std::int64_t ranks) {
  const at::Tensor split = SplitDim(whole, factor, factor.length);
  const at::Tensor index = Positions(factor, rank, ranks, whole).clamp_max(factor.length - 1);
  return MergeDim(split.index_select(factor.dim + 1, index), factor);
}

at::Tensor Gather(const std::vector<at::Tensor>& shards, const Factor& factor) {
  const std::int64_t ranks = static_cast<std::int64_t>(shards.size());
  std::vector<at::Tensor> blocks;
  for (const at::Tensor& shard : shards) blocks.push_back(SplitDim(shard, factor, factor.LocalLength(ranks)));
  const at::Tensor padded = at::cat(blocks, factor.dim + 1);
  return MergeDim(padded.narrow(factor.dim + 1, 0, factor.length), factor);
}

at::Tensor MaskPadding(const at::Tensor& shard, const Factor& factor, const c10::Scalar& value, std::int64_t rank,
                       std::int64_t ranks) {
  const at::Tensor split = SplitDim(shard, factor, factor.LocalLength(ranks));
  std::vector<std::int64_t> mask_shape(static_cast<std::size_t>(split.dim()), 1);
  mask_shape[static_cast<std::size_t>(factor.dim) + 1] = factor.LocalLength(ranks);
  const at::Tensor padding = Positions(factor, rank, ranks, shard).ge(factor.length).view(mask_shape);
  return MergeDim(split.masked_fill(padding, value), factor);
}

at::Tensor Reduce(const std::vector<at::Tensor>& terms, std::string_view reduce) {
  for (const at::Tensor& term : terms) {
    if (term.sizes() != terms.front().sizes()) {
      throw ExecutionError("the ranks bring " + DescribeValue(terms.front()) + " and " + DescribeValue(term));
    }
  }
  if (reduce == "max") return at::amax(at::stack(terms), 0);
  if (reduce == "min") return at::amin(at::stack(terms), 0);
  if (reduce != "sum" && reduce != "avg") {
    throw ExecutionError("the reduction \"" + std::string(reduce) + "\" is not known: sum, avg, max or min");
  }
  at::Tensor total = terms.front();
  for (std::size_t i = 1; i < terms.size(); ++i) total = total.add(terms[i]);
  return reduce == "avg" ? total.div(static_cast<std::int64_t>(terms.size())) : total;
}

}  // namespace autosp::interp
