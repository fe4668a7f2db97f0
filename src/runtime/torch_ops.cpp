// The schemas of torch.ops.autosp_rt.* and their kernels on CPU and CUDA: shells around exchange.h.
// Registration is static because that is how a library of torch ops is loaded (torch.ops.load_library).

#include <autosp/runtime/communicator_table.h>
#include <autosp/runtime/exchange.h>

#include <ATen/ops/scalar_tensor.h>
#include <torch/library.h>

#include <memory>
#include <string>
#include <utility>

namespace autosp::runtime {
namespace {

[[noreturn]] void Throw(const Status& status) {
  const DiagnosticCode code = status.diagnostics().front().code;
  if (code == DiagnosticCode::kCollectiveFailed || code == DiagnosticCode::kRankTimeout) {
    C10_THROW_ERROR(DistBackendError, status.ToString());
  }
  C10_THROW_ERROR(Error, status.ToString());
}

template <typename T>
T OrThrow(Expected<T> result) {
  if (!result.ok()) Throw(result.status());
  return std::move(result.value());
}

std::shared_ptr<Communicator> GroupOf(const std::string& group, const at::Tensor& x) {
  return OrThrow(FindCommunicator(group, x.device().type()));
}

// Makes a kernel of a function (operand, layout, group) of exchange.h.
template <Expected<at::Tensor> (*F)(const at::Tensor&, const ShardedDim&, Communicator&)>
at::Tensor ShardedDimKernel(const at::Tensor& x, std::int64_t dim, std::int64_t major, std::int64_t length,
                            std::int64_t minor, std::string group) {
  return OrThrow(F(x, {dim, major, length, minor}, *GroupOf(group, x)));
}

template <Expected<at::Tensor> (*F)(const at::Tensor&, const ShardedDim&, const ShardedDim&, Communicator&)>
at::Tensor AllToAllKernel(const at::Tensor& x, std::int64_t dim, std::int64_t major, std::int64_t length,
                          std::int64_t minor, std::int64_t to_dim, std::int64_t to_major, std::int64_t to_length,
                          std::int64_t to_minor, std::string group) {
  return OrThrow(F(x, {dim, major, length, minor}, {to_dim, to_major, to_length, to_minor}, *GroupOf(group, x)));
}

at::Tensor AllReduceKernel(const at::Tensor& x, std::string reduce, std::string group) {
  const Reduction reduction = OrThrow(ReductionFromString(reduce));
  return OrThrow(GroupOf(group, x)->AllReduce(x, reduction));
}

at::Tensor ReduceScatterKernel(const at::Tensor& x, std::string reduce, std::int64_t dim, std::int64_t major,
                               std::int64_t length, std::int64_t minor, std::string group) {
  const Reduction reduction = OrThrow(ReductionFromString(reduce));
  return OrThrow(ReduceScatter(x, reduction, {dim, major, length, minor}, *GroupOf(group, x)));
}

at::Tensor ReduceScatterBackwardKernel(const at::Tensor& g, std::string /*reduce*/, std::int64_t dim,
                                       std::int64_t major, std::int64_t length, std::int64_t minor, std::string group) {
  return OrThrow(ReduceScatterBackward(g, {dim, major, length, minor}, *GroupOf(group, g)));
}

at::Tensor MaskPaddingKernel(const at::Tensor& x, std::int64_t dim, std::int64_t major, std::int64_t length,
                             std::int64_t minor, const c10::Scalar& value, std::string group) {
  return OrThrow(MaskPadding(x, {dim, major, length, minor}, value, *GroupOf(group, x)));
}

// The rank is read when the program runs; while a program is traced `device` is the meta device.
at::Tensor MeshCoordinate(std::string group, c10::Device device) {
  const GroupPosition position = OrThrow(FindGroupPosition(group));
  return at::scalar_tensor(position.rank, at::TensorOptions().dtype(at::kLong).device(device));
}

void RegisterKernels(torch::Library& m) {
  m.impl("shard_slice", &ShardedDimKernel<ShardSlice>);
  m.impl("shard_slice_backward", &ShardedDimKernel<ShardSliceBackward>);
  m.impl("all_gather", &ShardedDimKernel<AllGather>);
  m.impl("all_gather_backward", &ShardedDimKernel<AllGatherBackward>);
  m.impl("all_to_all", &AllToAllKernel<AllToAll>);
  m.impl("all_to_all_backward", &AllToAllKernel<AllToAllBackward>);
  m.impl("all_reduce", &AllReduceKernel);
  m.impl("reduce_scatter", &ReduceScatterKernel);
  m.impl("reduce_scatter_backward", &ReduceScatterBackwardKernel);
  m.impl("mask_padding", &MaskPaddingKernel);
}

}  // namespace
}  // namespace autosp::runtime

TORCH_LIBRARY(autosp_rt, m) {
  const std::vector<at::Tag> tags{at::Tag::pt2_compliant_tag};
  const std::string layout = "int dim, SymInt major, SymInt length, SymInt minor";
  const std::string to_layout = "int to_dim, SymInt to_major, SymInt to_length, SymInt to_minor";
  const auto define = [&](const std::string& name, const std::string& arguments) {
    m.def((name + "(Tensor x, " + arguments + ", str group) -> Tensor").c_str(), tags);
  };
  for (const std::string suffix : {"", "_backward"}) {
    define("shard_slice" + suffix, layout);
    define("all_gather" + suffix, layout);
    define("all_to_all" + suffix, layout + ", " + to_layout);
    define("reduce_scatter" + suffix, "str reduce, " + layout);
  }
  define("all_reduce", "str reduce");
  define("mask_padding", layout + ", Scalar value");
  m.def("mesh_coordinate(str group, Device device) -> Tensor", tags);
}

TORCH_LIBRARY_IMPL(autosp_rt, CPU, m) { autosp::runtime::RegisterKernels(m); }
TORCH_LIBRARY_IMPL(autosp_rt, CUDA, m) { autosp::runtime::RegisterKernels(m); }
// An op without tensor operands is dispatched by what is always there.
TORCH_LIBRARY_IMPL(autosp_rt, BackendSelect, m) { m.impl("mesh_coordinate", &autosp::runtime::MeshCoordinate); }
