// Adjoints of the autosp_rt ops for the objective "sum of the ranks' losses". Each backward is again an op of the
// library, so that AOTAutograd traces it and it can be differentiated again.

#include "torch_ops.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <cstddef>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

namespace autosp::runtime {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// An op: its name, the op that is its adjoint, and how the arguments after the tensor change on the way there.
template <typename OpType>
struct SameArguments {
  using Op = OpType;
  template <typename Arguments>
  static void Adapt(Arguments&) {}
};

struct ShardSlice : SameArguments<ShardedDimOp> {
  static constexpr const char *kName = "autosp_rt::shard_slice", *kAdjoint = "autosp_rt::shard_slice_backward";
};
struct ShardSliceBackward : SameArguments<ShardedDimOp> {
  static constexpr const char *kName = ShardSlice::kAdjoint, *kAdjoint = ShardSlice::kName;
};
struct AllGather : SameArguments<ShardedDimOp> {
  static constexpr const char *kName = "autosp_rt::all_gather", *kAdjoint = "autosp_rt::all_gather_backward";
};
struct AllGatherBackward : SameArguments<ShardedDimOp> {
  static constexpr const char *kName = AllGather::kAdjoint, *kAdjoint = AllGather::kName;
};
struct AllToAll : SameArguments<AllToAllOp> {
  static constexpr const char *kName = "autosp_rt::all_to_all", *kAdjoint = "autosp_rt::all_to_all_backward";
};
struct AllToAllBackward : SameArguments<AllToAllOp> {
  static constexpr const char *kName = AllToAll::kAdjoint, *kAdjoint = AllToAll::kName;
};

template <typename OpType>
struct OnlySum {
  using Op = OpType;
  template <typename Arguments>
  static void Adapt(Arguments& arguments) {
    TORCH_CHECK_NOT_IMPLEMENTED(std::get<0>(arguments) == "sum",
                                "only reduce=\"sum\" has a gradient, this collective has \"", std::get<0>(arguments),
                                "\"; detach its operand");
  }
};
struct AllReduce : OnlySum<AllReduceOp> {
  static constexpr const char *kName = "autosp_rt::all_reduce", *kAdjoint = kName;
};
struct ReduceScatter : OnlySum<ReduceScatterOp> {
  static constexpr const char *kName = "autosp_rt::reduce_scatter", *kAdjoint = "autosp_rt::reduce_scatter_backward";
};
struct ReduceScatterBackward : OnlySum<ReduceScatterOp> {
  static constexpr const char *kName = ReduceScatter::kAdjoint, *kAdjoint = ReduceScatter::kName;
};

struct MaskPadding {
  using Op = MaskPaddingOp;
  static constexpr const char *kName = "autosp_rt::mask_padding", *kAdjoint = kName;
  template <typename Arguments>
  static void Adapt(Arguments& arguments) {
    std::get<4>(arguments) = 0;  // value
  }
};

template <typename Op>
auto Handle(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Op>();
}

template <typename Spec, typename... Args>
struct Node : torch::autograd::Function<Node<Spec, Args...>> {
  static constexpr bool is_traceable = true;

  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, Args... args) {
    std::size_t index = 0;
    ((context->saved_data[std::to_string(index++)] = c10::IValue(args)), ...);
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    return Handle<typename Spec::Op>(Spec::kName).call(x, std::forward<Args>(args)...);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    return Transposed(context, gradients[0], std::index_sequence_for<Args...>());
  }

 private:
  template <std::size_t... Index>
  static variable_list Transposed(AutogradContext* context, const at::Tensor& gradient, std::index_sequence<Index...>) {
    std::tuple<std::decay_t<Args>...> arguments{
        context->saved_data.at(std::to_string(Index)).template to<std::decay_t<Args>>()...};
    Spec::Adapt(arguments);
    variable_list result(1 + sizeof...(Args));
    result[0] = Handle<typename Spec::Op>(Spec::kAdjoint).call(gradient, std::get<Index>(arguments)...);
    return result;
  }
};

template <typename Spec, typename Op = typename Spec::Op>
struct Kernel;
template <typename Spec, typename... Args>
struct Kernel<Spec, at::Tensor(const at::Tensor&, Args...)> {
  static at::Tensor Call(const at::Tensor& x, Args... args) { return Node<Spec, Args...>::apply(x, args...); }
};

template <typename Spec>
void Register(torch::Library& m) {
  m.impl(std::string(Spec::kName).substr(std::string("autosp_rt::").size()).c_str(), &Kernel<Spec>::Call);
}

}  // namespace
}  // namespace autosp::runtime

TORCH_LIBRARY_IMPL(autosp_rt, Autograd, m) {
  namespace rt = autosp::runtime;
  rt::Register<rt::ShardSlice>(m);
  rt::Register<rt::ShardSliceBackward>(m);
  rt::Register<rt::AllGather>(m);
  rt::Register<rt::AllGatherBackward>(m);
  rt::Register<rt::AllToAll>(m);
  rt::Register<rt::AllToAllBackward>(m);
  rt::Register<rt::AllReduce>(m);
  rt::Register<rt::ReduceScatter>(m);
  rt::Register<rt::ReduceScatterBackward>(m);
  rt::Register<rt::MaskPadding>(m);
}
