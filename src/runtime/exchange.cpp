#include <autosp/runtime/exchange.h>

#include <ATen/ops/cat.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace autosp::runtime {
namespace {

// What a padded tail is made of, and what becomes of one that is cut off. Repeating the last element and adding the
// tail to the last element are each other's adjoints, as are filling with zero and dropping.
enum class Fill { kRepeatLast, kZero };
enum class CutOff { kDrop, kAddToLast };

Status CheckSize(const char* op, const at::Tensor& x, const ShardedDim& d, std::int64_t size, const char* state) {
  const bool in_range = d.dim >= 0 && d.dim < x.dim();
  if (in_range && x.size(d.dim) == d.major * size * d.minor) return Status::Ok();
  const std::string layout = std::to_string(d.major) + "*" + std::to_string(size) + "*" + std::to_string(d.minor);
  const std::string found = in_range ? "has size " + std::to_string(x.size(d.dim))
                                     : "does not exist in a tensor of " + std::to_string(x.dim()) + " dims";
  return Diagnostic{.code = DiagnosticCode::kExecution,
                    .message = std::string(op) + ": dim " + std::to_string(d.dim) + " " + found + ", but a " + state +
                               " dim of the layout has size " + layout,
                    .location = {},
                    .subject = {},
                    .notes = {"the layout cuts a factor of true length " + std::to_string(d.length)},
                    .hint = "make dim, major, length and minor those of the operand"};
}

std::vector<std::int64_t> Resized(const at::Tensor& x, std::int64_t dim, std::int64_t size) {
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape[static_cast<std::size_t>(dim)] = size;
  return shape;
}

// A view with the cut factor, of size `size` here and now, as a dim of its own: dim d.dim + 1.
at::Tensor Factored(const at::Tensor& x, const ShardedDim& d, std::int64_t size) {
  std::vector<std::int64_t> shape = x.sizes().vec();
  const auto at = shape.begin() + d.dim;
  *at = d.major;
  shape.insert(at + 1, {size, d.minor});
  return x.reshape(shape);
}

// Puts the factor back into its dim and makes the result the caller's own.
at::Tensor Finished(const at::Tensor& factored, const std::vector<std::int64_t>& shape, const at::Tensor& operand) {
  at::Tensor result = factored.reshape(shape).contiguous();
  return result.is_alias_of(operand) ? result.clone(at::MemoryFormat::Contiguous) : result;
}

// `missing` elements of `axis`, to stand behind `v`, whose last element along it is the last true one.
at::Tensor Tail(const at::Tensor& v, std::int64_t axis, std::int64_t missing, Fill fill) {
  std::vector<std::int64_t> shape = Resized(v, axis, missing);
  if (fill == Fill::kZero || v.size(axis) == 0) return v.new_zeros(shape);
  return v.narrow(axis, v.size(axis) - 1, 1).expand(shape);
}

at::Tensor PadTo(const at::Tensor& v, std::int64_t axis, std::int64_t size, Fill fill) {
  const std::int64_t missing = size - v.size(axis);
  return missing == 0 ? v : at::cat({v, Tail(v, axis, missing, fill)}, axis);
}

at::Tensor CutTo(const at::Tensor& v, std::int64_t axis, std::int64_t length, CutOff cut_off) {
  const std::int64_t extra = v.size(axis) - length;
  if (extra == 0) return v;
  at::Tensor kept = v.narrow(axis, 0, length);
  if (cut_off == CutOff::kDrop || length == 0) return kept;
  kept = kept.clone();
  kept.select(axis, length - 1).add_(v.narrow(axis, length, extra).sum(axis));
  return kept;
}

// Elements of this rank's block of `length` that are no padding.
std::int64_t TrueCount(std::int64_t length, const Communicator& group) {
  const std::int64_t block = CeilDiv(length, group.size());
  return std::clamp<std::int64_t>(length - group.rank() * block, 0, block);
}

at::Tensor BlockOf(const at::Tensor& whole, std::int64_t axis, Fill fill, const Communicator& group) {
  const std::int64_t length = whole.size(axis);
  const std::int64_t block = CeilDiv(length, group.size());
  const std::int64_t count = TrueCount(length, group);
  const at::Tensor kept = whole.narrow(axis, std::min(group.rank() * block, length), count);
  return count == block ? kept : at::cat({kept, Tail(whole, axis, block - count, fill)}, axis);
}

// [.., P*n, ..] -> [P, .., n, ..] and back.
at::Tensor RanksFirst(const at::Tensor& v, std::int64_t axis, std::int64_t ranks) {
  return v.unflatten(axis, {ranks, v.size(axis) / ranks}).movedim(axis, 0);
}
at::Tensor RanksInto(const at::Tensor& v, std::int64_t axis) { return v.movedim(0, axis).flatten(axis, axis + 1); }

Expected<at::Tensor> Gather(const char* op, const at::Tensor& x, const ShardedDim& d, CutOff cut_off,
                            Communicator& group) {
  const std::int64_t block = CeilDiv(d.length, group.size());
  AUTOSP_RETURN_IF_ERROR(CheckSize(op, x, d, block, "local"));
  AUTOSP_ASSIGN_OR_RETURN(const at::Tensor all, group.AllGather(Factored(x, d, block)));
  const at::Tensor whole = CutTo(RanksInto(all, d.dim + 1), d.dim + 1, d.length, cut_off);
  return Finished(whole, Resized(x, d.dim, d.major * d.length * d.minor), x);
}

Expected<at::Tensor> Slice(const char* op, const at::Tensor& x, const ShardedDim& d, Fill fill,
                           const Communicator& group) {
  AUTOSP_RETURN_IF_ERROR(CheckSize(op, x, d, d.length, "whole"));
  const at::Tensor block = BlockOf(Factored(x, d, d.length), d.dim + 1, fill, group);
  return Finished(block, Resized(x, d.dim, d.major * CeilDiv(d.length, group.size()) * d.minor), x);
}

Expected<at::Tensor> ReduceAndScatter(const char* op, const at::Tensor& x, Reduction reduction, const ShardedDim& d,
                                      Fill fill, Communicator& group) {
  AUTOSP_RETURN_IF_ERROR(CheckSize(op, x, d, d.length, "whole"));
  const std::int64_t block = CeilDiv(d.length, group.size());
  const std::int64_t axis = d.dim + 1;
  const at::Tensor padded = PadTo(Factored(x, d, d.length), axis, block * group.size(), fill);
  AUTOSP_ASSIGN_OR_RETURN(const at::Tensor mine,
                          group.ReduceScatter(RanksFirst(padded, axis, group.size()), reduction));
  return Finished(mine, Resized(x, d.dim, d.major * block * d.minor), x);
}

// A view of x in which the factors of `from` and `to` are dims of their own.
struct TwoFactors {
  at::Tensor view;
  std::int64_t from_axis, to_axis;
};

// The two factors of one dim, outer one first; x has `outer_size` and `inner_size` of them. Nothing when the inner
// factor does not lie within the outer one's minor part.
std::optional<at::Tensor> FactoredTwice(const at::Tensor& x, const ShardedDim& outer, std::int64_t outer_size,
                                        const ShardedDim& inner, std::int64_t inner_size) {
  const std::int64_t before = outer.major * outer.length;
  if (before == 0 || inner.length == 0 || inner.major % before != 0) return std::nullopt;
  const std::int64_t between = inner.major / before;
  if (between * inner.length * inner.minor != outer.minor) return std::nullopt;
  std::vector<std::int64_t> shape = x.sizes().vec();
  const auto at = shape.begin() + outer.dim;
  *at = outer.major;
  shape.insert(at + 1, {outer_size, between, inner_size, inner.minor});
  return x.reshape(shape);
}

std::optional<TwoFactors> FactorBoth(const at::Tensor& x, const ShardedDim& from, std::int64_t from_size,
                                     const ShardedDim& to, std::int64_t to_size) {
  if (from.dim != to.dim) {
    const bool from_first = from.dim < to.dim;
    const ShardedDim& later = from_first ? to : from;
    const ShardedDim& earlier = from_first ? from : to;
    const at::Tensor once = Factored(x, later, from_first ? to_size : from_size);
    const at::Tensor both = Factored(once, earlier, from_first ? from_size : to_size);
    return from_first ? TwoFactors{both, from.dim + 1, to.dim + 3} : TwoFactors{both, from.dim + 3, to.dim + 1};
  }
  if (auto view = FactoredTwice(x, from, from_size, to, to_size)) return TwoFactors{*view, from.dim + 1, to.dim + 3};
  if (auto view = FactoredTwice(x, to, to_size, from, from_size)) return TwoFactors{*view, from.dim + 3, to.dim + 1};
  return std::nullopt;
}

// x: local in `from`, whole in `to`. The whole factor is padded by `fill`; the tail of the gathered one is `cut_off`.
Expected<at::Tensor> Exchange(const char* op, const at::Tensor& x, const ShardedDim& from, const ShardedDim& to,
                              Fill fill, CutOff cut_off, Communicator& group) {
  const std::int64_t from_block = CeilDiv(from.length, group.size());
  const std::int64_t to_block = CeilDiv(to.length, group.size());
  AUTOSP_RETURN_IF_ERROR(CheckSize(op, x, from, from_block, "local"));
  const bool same_dim = from.dim == to.dim;
  if (!same_dim) AUTOSP_RETURN_IF_ERROR(CheckSize(op, x, to, to.length, "whole"));
  const auto factored = FactorBoth(x, from, from_block, to, to.length);
  if (!factored) {
    // Factors of one dim of which neither lies within the other: no exchange of blocks does it.
    AUTOSP_ASSIGN_OR_RETURN(const at::Tensor whole, Gather(op, x, from, cut_off, group));
    return Slice(op, whole, to, fill, group);
  }
  const at::Tensor padded = PadTo(factored->view, factored->to_axis, to_block * group.size(), fill);
  AUTOSP_ASSIGN_OR_RETURN(const at::Tensor received,
                          group.AllToAll(RanksFirst(padded, factored->to_axis, group.size())));
  const at::Tensor whole = CutTo(RanksInto(received, factored->from_axis), factored->from_axis, from.length, cut_off);
  std::vector<std::int64_t> shape = Resized(x, from.dim, from.major * from.length * from.minor);
  shape[static_cast<std::size_t>(to.dim)] = to.major * to_block * to.minor;
  return Finished(whole, shape, x);
}

}  // namespace

std::int64_t CeilDiv(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

Expected<at::Tensor> ShardSlice(const at::Tensor& x, const ShardedDim& d, Communicator& group) {
  return Slice("shard_slice", x, d, Fill::kRepeatLast, group);
}

Expected<at::Tensor> ShardSliceBackward(const at::Tensor& g, const ShardedDim& d, Communicator& group) {
  const std::int64_t block = CeilDiv(d.length, group.size());
  AUTOSP_RETURN_IF_ERROR(CheckSize("shard_slice_backward", g, d, block, "local"));
  const std::int64_t axis = d.dim + 1;
  const std::int64_t count = TrueCount(d.length, group);
  const at::Tensor local = Factored(g, d, block);
  const at::Tensor whole = local.new_zeros(Resized(local, axis, d.length));
  if (count > 0) whole.narrow(axis, group.rank() * block, count).copy_(local.narrow(axis, 0, count));
  if (count < block) whole.select(axis, d.length - 1).add_(local.narrow(axis, count, block - count).sum(axis));
  return Finished(whole, Resized(g, d.dim, d.major * d.length * d.minor), g);
}

Expected<at::Tensor> AllGather(const at::Tensor& x, const ShardedDim& d, Communicator& group) {
  return Gather("all_gather", x, d, CutOff::kDrop, group);
}

Expected<at::Tensor> AllGatherBackward(const at::Tensor& g, const ShardedDim& d, Communicator& group) {
  return ReduceAndScatter("all_gather_backward", g, Reduction::kSum, d, Fill::kZero, group);
}

Expected<at::Tensor> ReduceScatter(const at::Tensor& x, Reduction reduction, const ShardedDim& d, Communicator& group) {
  return ReduceAndScatter("reduce_scatter", x, reduction, d, Fill::kRepeatLast, group);
}

Expected<at::Tensor> ReduceScatterBackward(const at::Tensor& g, const ShardedDim& d, Communicator& group) {
  return Gather("reduce_scatter_backward", g, d, CutOff::kAddToLast, group);
}

Expected<at::Tensor> AllToAll(const at::Tensor& x, const ShardedDim& from, const ShardedDim& to, Communicator& group) {
  return Exchange("all_to_all", x, from, to, Fill::kRepeatLast, CutOff::kDrop, group);
}

Expected<at::Tensor> AllToAllBackward(const at::Tensor& g, const ShardedDim& from, const ShardedDim& to,
                                      Communicator& group) {
  return Exchange("all_to_all_backward", g, to, from, Fill::kZero, CutOff::kAddToLast, group);
}

Expected<at::Tensor> MaskPadding(const at::Tensor& x, const ShardedDim& d, const c10::Scalar& value,
                                 Communicator& group) {
  const std::int64_t block = CeilDiv(d.length, group.size());
  AUTOSP_RETURN_IF_ERROR(CheckSize("mask_padding", x, d, block, "local"));
  const std::int64_t count = TrueCount(d.length, group);
  at::Tensor result = x.clone(at::MemoryFormat::Contiguous);
  // A contiguous tensor is factored by a view: the fill reaches `result`.
  if (count < block) Factored(result, d, block).narrow(d.dim + 1, count, block - count).fill_(value);
  return result;
}

}  // namespace autosp::runtime
