#include "op_call.h"

#include "execution_error.h"
#include "torch_types.h"

#include <ATen/ScalarOps.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/jit_type.h>
#include <c10/core/Layout.h>
#include <c10/core/MemoryFormat.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace autosp::interp {
namespace {

c10::IValue EvaluateDtype(const std::string& name) {
  std::optional<DType> dtype = DTypeFromString(name);
  if (!dtype) dtype = DTypeFromTorchName(name);
  if (!dtype) throw ExecutionError("dtype \"" + name + "\" is not known");
  return static_cast<std::int64_t>(ToScalarType(*dtype));
}

c10::IValue EvaluateConstant(const Argument::Constant& constant, const RankScope& scope) {
  const std::string& name = constant.name;
  if (constant.family == "dtype") return EvaluateDtype(name);
  if (constant.family == "device") return scope.device;
  if (constant.family == "group") return name;
  if (constant.family == "layout" && name == "strided") return static_cast<std::int64_t>(c10::kStrided);
  if (constant.family == "memory_format") {
    if (name == "contiguous" || name == "contiguous_format")
      return static_cast<std::int64_t>(c10::MemoryFormat::Contiguous);
    if (name == "preserve" || name == "preserve_format") return static_cast<std::int64_t>(c10::MemoryFormat::Preserve);
    if (name == "channels_last") return static_cast<std::int64_t>(c10::MemoryFormat::ChannelsLast);
  }
  throw ExecutionError("the constant " + constant.family + "." + name + " cannot be used in a simulated run");
}

// A tensor that stands where a schema wants a number.
c10::IValue ItemOf(const c10::IValue& value) {
  const at::Tensor& tensor = value.toTensor();
  if (tensor.numel() != 1) throw ExecutionError("a number is wanted, not " + DescribeValue(value));
  return tensor.item();
}

c10::IValue WrappedNumber(const c10::Scalar& scalar) {
  at::Tensor tensor = at::scalar_to_tensor(scalar);
  // As Python numbers do, it must not decide the dtype of the result.
  tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
  return tensor;
}

[[noreturn]] void RefuseArgument(const c10::Argument& argument, const c10::Type& wanted, const c10::IValue& value) {
  throw ExecutionError("argument \"" + argument.name() + "\" wants " + wanted.str() + ", not " + DescribeValue(value));
}

c10::IValue Coerce(const c10::IValue& value, const c10::TypePtr& type, const c10::Argument& argument);

c10::IValue CoerceList(const c10::IValue& value, const c10::ListType& type, const c10::Argument& argument) {
  c10::impl::GenericList list(type.getElementType());
  if (value.isList()) {
    for (const c10::IValue& element : value.toListRef()) {
      list.push_back(Coerce(element, type.getElementType(), argument));
    }
  } else if (value.isTuple()) {
    for (const c10::IValue& element : value.toTupleRef().elements()) {
      list.push_back(Coerce(element, type.getElementType(), argument));
    }
  } else {
    // "int[2] kernel" may be given as one number for all.
    const std::int64_t count = argument.N().value_or(1);
    for (std::int64_t i = 0; i < count; ++i) list.push_back(Coerce(value, type.getElementType(), argument));
  }
  return list;
}

c10::IValue CoerceNumber(const c10::IValue& given, const c10::TypePtr& type, const c10::Argument& argument) {
  const c10::IValue value = given.isTensor() ? ItemOf(given) : given;
  switch (type->kind()) {
    case c10::TypeKind::IntType:
      if (value.isInt()) return value;
      if (value.isBool()) return static_cast<std::int64_t>(value.toBool());
      break;
    case c10::TypeKind::FloatType:
      if (value.isDouble()) return value;
      if (value.isInt()) return static_cast<double>(value.toInt());
      if (value.isBool()) return value.toBool() ? 1.0 : 0.0;
      break;
    case c10::TypeKind::BoolType:
      if (value.isBool()) return value;
      if (value.isInt()) return value.toInt() != 0;
      break;
    default:
      if (value.isScalar()) return value;
  }
  RefuseArgument(argument, *type, value);
}

c10::IValue Coerce(const c10::IValue& value, const c10::TypePtr& type, const c10::Argument& argument) {
  switch (type->kind()) {
    case c10::TypeKind::OptionalType:
      if (value.isNone()) return value;
      return Coerce(value, type->castRaw<c10::OptionalType>()->getElementType(), argument);
    case c10::TypeKind::TensorType:
      if (value.isTensor()) return value;
      if (value.isScalar()) return WrappedNumber(value.toScalar());
      RefuseArgument(argument, *type, value);
    case c10::TypeKind::ListType:
      return CoerceList(value, *type->castRaw<c10::ListType>(), argument);
    case c10::TypeKind::IntType:
    case c10::TypeKind::FloatType:
    case c10::TypeKind::BoolType:
    case c10::TypeKind::NumberType:
      return CoerceNumber(value, type, argument);
    case c10::TypeKind::StringType:
      if (value.isString()) return value;
      RefuseArgument(argument, *type, value);
    case c10::TypeKind::DeviceObjType:
      if (value.isDevice()) return value;
      RefuseArgument(argument, *type, value);
    default:
      return value;
  }
}

// "aten.add.Tensor" -> {"aten::add", "Tensor"}.
std::optional<c10::OperatorName> OperatorNameOf(const std::string& op) {
  const std::size_t first = op.find('.');
  if (first == std::string::npos) return std::nullopt;
  const std::size_t second = op.find('.', first + 1);
  std::string name = op.substr(0, first) + "::" + op.substr(first + 1, second - first - 1);
  std::string overload = second == std::string::npos ? "" : op.substr(second + 1);
  if (overload == "default") overload.clear();
  return c10::OperatorName(std::move(name), std::move(overload));
}

[[noreturn]] void RefuseOperator(const std::string& op, const std::optional<c10::OperatorName>& wanted) {
  std::vector<std::string> overloads;
  for (const c10::OperatorName& known : c10::Dispatcher::singleton().getAllOpNames()) {
    if (wanted && known.name == wanted->name) {
      overloads.push_back(known.overload_name.empty() ? "default" : known.overload_name);
    }
  }
  if (overloads.empty()) throw ExecutionError("the simulator does not know the operation " + op);
  std::sort(overloads.begin(), overloads.end());
  std::string text = op + " has no such overload; it has";
  for (const std::string& overload : overloads) text += (&overload == &overloads.front() ? " " : ", ") + overload;
  throw ExecutionError(text);
}

void CheckAttributeNames(const Node& node, const c10::FunctionSchema& schema) {
  for (const auto& [name, value] : node.attributes) {
    if (!schema.argumentIndexWithName(name)) {
      throw ExecutionError("the operator has no argument \"" + name + "\": " + c10::toString(schema));
    }
  }
  if (node.args.size() > schema.arguments().size()) {
    throw ExecutionError(std::to_string(node.args.size()) + " arguments given, " +
                         std::to_string(schema.arguments().size()) + " known: " + c10::toString(schema));
  }
}

// The CPU kernels of attention believe these sizes and read past the end where they differ.
void CheckAttentionSizes(const std::vector<c10::IValue>& stack) {
  const at::Tensor &query = stack[0].toTensor(), &key = stack[1].toTensor(), &value = stack[2].toTensor();
  if (query.dim() < 2 || key.dim() < 2 || value.dim() < 2) return;  // Refused by the operator itself.
  bool fits = key.size(-2) == value.size(-2) && query.size(-1) == key.size(-1);
  for (std::int64_t dim = 0; dim + 2 < std::min(key.dim(), value.dim()); ++dim) {
    fits = fits && key.size(dim) == value.size(dim);
  }
  if (fits) return;
  throw ExecutionError("attention over " + DescribeValue(query) + ", " + DescribeValue(key) + " and " +
                       DescribeValue(value) + ": the keys fit neither the query nor the values");
}

}  // namespace

c10::IValue EvaluateArgument(const Argument& argument, const RankScope& scope) {
  if (argument.is_none()) return {};
  if (const bool* value = argument.get<bool>()) return *value;
  if (const std::int64_t* value = argument.get<std::int64_t>()) return *value;
  if (const double* value = argument.get<double>()) return *value;
  if (const std::string* value = argument.get<std::string>()) return *value;
  if (const Node* node = argument.node()) return scope.value_of(node);
  if (const auto* constant = argument.get<Argument::Constant>()) return EvaluateConstant(*constant, scope);
  const Argument::List* list = argument.list();
  if (list == nullptr) throw ExecutionError("a Python slice cannot be used in a simulated run");
  c10::impl::GenericList values(c10::AnyType::get());
  for (const Argument& element : *list) values.push_back(EvaluateArgument(element, scope));
  return values;
}

c10::IValue CallOperator(const Node& node, const RankScope& scope) {
  const std::optional<c10::OperatorName> name = OperatorNameOf(node.op);
  const std::optional<c10::OperatorHandle> handle =
      name ? c10::Dispatcher::singleton().findSchema(*name) : std::nullopt;
  if (!handle) RefuseOperator(node.op, name);
  const c10::FunctionSchema& schema = handle->schema();
  CheckAttributeNames(node, schema);

  std::vector<c10::IValue> stack;
  for (std::size_t i = 0; i < schema.arguments().size(); ++i) {
    const c10::Argument& formal = schema.arguments()[i];
    const Argument* given = i < node.args.size() ? &node.args[i] : node.attribute(formal.name());
    if (given != nullptr) {
      stack.push_back(Coerce(EvaluateArgument(*given, scope), formal.type(), formal));
    } else if (formal.default_value()) {
      stack.push_back(*formal.default_value());
    } else {
      throw ExecutionError("argument \"" + formal.name() + "\" is missing: " + c10::toString(schema));
    }
  }
  if (node.op == "aten.scaled_dot_product_attention") CheckAttentionSizes(stack);
  handle->callBoxed(stack);
  if (stack.empty()) return {};
  if (stack.size() == 1) return std::move(stack.front());
  return c10::ivalue::Tuple::create(std::move(stack));
}

c10::IValue EvaluateGetItem(const Node& node, const RankScope& scope) {
  if (node.args.size() != 2) throw ExecutionError("builtin.getitem wants a value and an index");
  const c10::IValue container = EvaluateArgument(node.args[0], scope);
  const c10::IValue index_value = EvaluateArgument(node.args[1], scope);
  if (!index_value.isInt())
    throw ExecutionError("builtin.getitem wants an integer index, not " + DescribeValue(index_value));
  std::vector<c10::IValue> elements;
  if (container.isTuple()) {
    elements = container.toTupleRef().elements().vec();
  } else if (container.isList()) {
    const c10::List<c10::IValue> list = container.toList();
    for (std::size_t i = 0; i < list.size(); ++i) elements.push_back(list.get(i));
  } else {
    throw ExecutionError("builtin.getitem wants a tuple or a list, not " + DescribeValue(container));
  }
  const std::int64_t size = static_cast<std::int64_t>(elements.size());
  const std::int64_t index = index_value.toInt() < 0 ? index_value.toInt() + size : index_value.toInt();
  if (index < 0 || index >= size) {
    throw ExecutionError("index " + std::to_string(index_value.toInt()) + " is outside of " + std::to_string(size) +
                         " elements");
  }
  return elements[static_cast<std::size_t>(index)];
}

}  // namespace autosp::interp
