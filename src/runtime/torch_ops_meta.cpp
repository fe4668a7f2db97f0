// Shapes of autosp_rt ops for tracing, in symbolic sizes. The group's size is read here, the rank never: one traced
// program serves every rank.

#include "torch_ops.h"

#include <autosp/runtime/communicator_table.h>

#include <ATen/ops/empty.h>
#include <c10/core/SymBool.h>
#include <torch/library.h>

#include <string>
#include <utility>
#include <vector>

namespace autosp::runtime {
namespace {

struct SymbolicDim {
  std::int64_t dim;
  c10::SymInt major, length, minor;

  c10::SymInt Whole() const { return major * length * minor; }
  // The rewritten graph writes n/P where it knows that P divides n. The same expression here makes sizes equal without
  // a proof: (n + P - 1)/P = n/P costs the shape environment milliseconds for every op that follows.
  c10::SymInt Local(std::int64_t ranks) const {
    const bool divides = TORCH_STATICALLY_KNOWN_TRUE((length % ranks).sym_eq(0));
    return major * ((divides ? length : length + (ranks - 1)) / ranks) * minor;
  }
};

std::int64_t GroupSize(const std::string& group) {
  const auto position = FindGroupPosition(group);
  TORCH_CHECK(position.ok(), position.ok() ? std::string() : position.status().ToString());
  return position->size;
}

void CheckSize(const char* op, const at::Tensor& x, const SymbolicDim& d, const c10::SymInt& size) {
  TORCH_CHECK(d.dim >= 0 && d.dim < x.dim(), op, ": dim ", d.dim, " does not exist in a tensor of ", x.dim(), " dims");
  const c10::SymInt found = x.sym_size(d.dim);
  TORCH_SYM_CHECK(found.sym_eq(size), op, ": dim ", d.dim, " has size ", found, ", but the layout says ", size);
}

at::Tensor Shaped(const at::Tensor& x, const std::vector<std::pair<std::int64_t, c10::SymInt>>& sizes) {
  std::vector<c10::SymInt> shape = x.sym_sizes().vec();
  for (const auto& [dim, size] : sizes) shape[static_cast<std::size_t>(dim)] = size;
  return at::empty_symint(shape, x.options());
}

at::Tensor ToLocal(const at::Tensor& x, std::int64_t dim, c10::SymInt major, c10::SymInt length, c10::SymInt minor,
                   std::string group) {
  const SymbolicDim d{dim, std::move(major), std::move(length), std::move(minor)};
  CheckSize("a whole operand of autosp_rt", x, d, d.Whole());
  return Shaped(x, {{dim, d.Local(GroupSize(group))}});
}

at::Tensor ToWhole(const at::Tensor& x, std::int64_t dim, c10::SymInt major, c10::SymInt length, c10::SymInt minor,
                   std::string group) {
  const SymbolicDim d{dim, std::move(major), std::move(length), std::move(minor)};
  CheckSize("a local operand of autosp_rt", x, d, d.Local(GroupSize(group)));
  return Shaped(x, {{dim, d.Whole()}});
}

at::Tensor Exchanged(const at::Tensor& x, const SymbolicDim& from, const SymbolicDim& to, const std::string& group) {
  const std::int64_t ranks = GroupSize(group);
  CheckSize("the gathered dim of autosp_rt::all_to_all", x, from, from.Local(ranks));
  if (from.dim == to.dim) return Shaped(x, {{to.dim, to.Local(ranks)}});
  CheckSize("the cut dim of autosp_rt::all_to_all", x, to, to.Whole());
  return Shaped(x, {{from.dim, from.Whole()}, {to.dim, to.Local(ranks)}});
}

at::Tensor AllToAll(const at::Tensor& x, std::int64_t dim, c10::SymInt major, c10::SymInt length, c10::SymInt minor,
                    std::int64_t to_dim, c10::SymInt to_major, c10::SymInt to_length, c10::SymInt to_minor,
                    std::string group) {
  return Exchanged(x, {dim, std::move(major), std::move(length), std::move(minor)},
                   {to_dim, std::move(to_major), std::move(to_length), std::move(to_minor)}, group);
}

at::Tensor AllToAllBackward(const at::Tensor& g, std::int64_t dim, c10::SymInt major, c10::SymInt length,
                            c10::SymInt minor, std::int64_t to_dim, c10::SymInt to_major, c10::SymInt to_length,
                            c10::SymInt to_minor, std::string group) {
  return Exchanged(g, {to_dim, std::move(to_major), std::move(to_length), std::move(to_minor)},
                   {dim, std::move(major), std::move(length), std::move(minor)}, group);
}

at::Tensor AllReduce(const at::Tensor& x, std::string /*reduce*/, std::string group) {
  GroupSize(group);
  return Shaped(x, {});
}

at::Tensor ReduceScatter(const at::Tensor& x, std::string /*reduce*/, std::int64_t dim, c10::SymInt major,
                         c10::SymInt length, c10::SymInt minor, std::string group) {
  return ToLocal(x, dim, std::move(major), std::move(length), std::move(minor), std::move(group));
}

at::Tensor ReduceScatterBackward(const at::Tensor& g, std::string /*reduce*/, std::int64_t dim, c10::SymInt major,
                                 c10::SymInt length, c10::SymInt minor, std::string group) {
  return ToWhole(g, dim, std::move(major), std::move(length), std::move(minor), std::move(group));
}

at::Tensor MaskPadding(const at::Tensor& x, std::int64_t dim, c10::SymInt major, c10::SymInt length, c10::SymInt minor,
                       const c10::Scalar& /*value*/, std::string group) {
  const SymbolicDim d{dim, std::move(major), std::move(length), std::move(minor)};
  CheckSize("a local operand of autosp_rt", x, d, d.Local(GroupSize(group)));
  return Shaped(x, {});
}

}  // namespace
}  // namespace autosp::runtime

TORCH_LIBRARY_IMPL(autosp_rt, Meta, m) {
  namespace rt = autosp::runtime;
  m.impl("shard_slice", &rt::ToLocal);
  m.impl("shard_slice_backward", &rt::ToWhole);
  m.impl("all_gather", &rt::ToWhole);
  m.impl("all_gather_backward", &rt::ToLocal);
  m.impl("all_to_all", &rt::AllToAll);
  m.impl("all_to_all_backward", &rt::AllToAllBackward);
  m.impl("all_reduce", &rt::AllReduce);
  m.impl("reduce_scatter", &rt::ReduceScatter);
  m.impl("reduce_scatter_backward", &rt::ReduceScatterBackward);
  m.impl("mask_padding", &rt::MaskPadding);
}
