#pragma once

#include <autosp/ir/graph.h>

#include <ATen/core/ivalue.h>
#include <c10/core/Device.h>

#include <functional>

namespace autosp::interp {

// What the arguments of a node are evaluated against: the values of one rank.
struct RankScope {
  std::function<const c10::IValue&(const Node*)> value_of;
  c10::Device device;
};

// The value of an argument as it stands, without the knowledge of a schema. Throws ExecutionError.
c10::IValue EvaluateArgument(const Argument& argument, const RankScope& scope);

// Calls a registered operator ("aten.add.Tensor") through the dispatcher, arguments converted as its schema wants them.
// None, the one result, or a tuple. Throws ExecutionError, or what the kernel throws.
c10::IValue CallOperator(const Node& node, const RankScope& scope);

// "sym.*" arithmetic over integers (and floats and booleans) with Python's meaning.
c10::IValue EvaluateSymbolic(const Node& node, const RankScope& scope);

c10::IValue EvaluateGetItem(const Node& node, const RankScope& scope);

}  // namespace autosp::interp
