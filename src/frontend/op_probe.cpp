#include "op_probe.h"

#include <ATen/core/jit_type.h>
#include <ATen/core/stack.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>

#include <exception>
#include <utility>

namespace autosp::frontend {
namespace {

at::Tensor ZerosWithoutMemory(const at::Tensor& tensor) {
  return at::zeros({}, tensor.options().device(c10::kCPU)).expand(tensor.sizes());
}

c10::IValue MapTensors(const c10::IValue& value, at::Tensor (*map)(const at::Tensor&)) {
  if (value.isTensor()) return value.toTensor().defined() ? c10::IValue(map(value.toTensor())) : value;
  if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const at::Tensor& element : value.toTensorVector()) list.push_back(map(element));
    return list;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> list;
    for (const std::optional<at::Tensor>& element : value.toOptionalTensorVector()) {
      list.push_back(element ? std::optional<at::Tensor>(map(*element)) : std::nullopt);
    }
    return list;
  }
  return value;
}

// Where factories put their result: a device argument, given or not, means the probe's device.
void PlaceOn(c10::Device device, const torch::jit::Node& node, std::vector<c10::IValue>& stack) {
  const c10::FunctionSchema* schema = node.maybeSchema();
  if (schema == nullptr) return;
  bool any_tensor = false;
  for (const c10::IValue& value : stack) any_tensor = any_tensor || value.isTensor() || value.isTensorList();
  for (std::size_t i = 0; i < schema->arguments().size() && i < stack.size(); ++i) {
    const c10::Argument& formal = schema->arguments()[i];
    const bool is_device = formal.name() == "device" && (stack[i].isDevice() || stack[i].isNone());
    if (is_device && (stack[i].isDevice() || !any_tensor)) stack[i] = device;
  }
}

std::string Message(const std::exception& error) {
  const std::string text = error.what();
  return text.substr(0, text.find('\n'));
}

}  // namespace

at::Tensor WithoutData(const at::Tensor& tensor) {
  if (tensor.is_meta()) return tensor;
  return at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options().device(c10::kMeta));
}

c10::IValue AtProbe(const ScriptValue& value, const c10::TypePtr& type, const LengthProbes& probes, std::size_t probe) {
  switch (value.kind) {
    case ScriptValue::Kind::kConstant:
    case ScriptValue::Kind::kObject:
      return value.constant;
    case ScriptValue::Kind::kInt:
      return probes.At(value.number, probe).value_or(0);
    case ScriptValue::Kind::kTensor:
      return value.probes[probe];
    case ScriptValue::Kind::kSequence:
      break;
  }
  c10::TypePtr plain = type;
  if (const auto optional = plain->cast<c10::OptionalType>()) plain = optional->getElementType();
  if (const auto list = plain->cast<c10::ListType>()) {
    c10::impl::GenericList elements(list->getElementType());
    for (const ScriptValue& element : value.elements) {
      elements.push_back(AtProbe(element, list->getElementType(), probes, probe));
    }
    return elements;
  }
  std::vector<c10::IValue> elements;
  const auto tuple = plain->cast<c10::TupleType>();
  for (std::size_t i = 0; i < value.elements.size(); ++i) {
    const c10::TypePtr of = tuple && i < tuple->elements().size() ? tuple->elements()[i] : c10::AnyType::get();
    elements.push_back(AtProbe(value.elements[i], of, probes, probe));
  }
  return c10::ivalue::Tuple::create(std::move(elements));
}

ProbeResult RunAtProbe(const torch::jit::Node& node, const std::vector<ScriptValue>& operands,
                       const LengthProbes& probes, std::size_t probe) {
  const c10::AutoGradMode no_grad(false);
  std::vector<c10::IValue> stack;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    stack.push_back(AtProbe(operands[i], node.input(i)->type(), probes, probe));
  }
  std::vector<c10::IValue> on_zeros = stack;
  try {
    torch::jit::Operation operation = node.getOperation();
    try {
      PlaceOn(c10::kMeta, node, stack);
      operation(stack);
    } catch (const c10::NotImplementedError&) {
      PlaceOn(c10::kCPU, node, on_zeros);
      for (c10::IValue& value : on_zeros) value = MapTensors(value, &ZerosWithoutMemory);
      operation(on_zeros);
      stack = std::move(on_zeros);
    }
  } catch (const std::exception& error) {
    return {{}, Message(error)};
  }
  for (c10::IValue& value : stack) value = MapTensors(value, &WithoutData);
  return {std::move(stack), ""};
}

}  // namespace autosp::frontend
