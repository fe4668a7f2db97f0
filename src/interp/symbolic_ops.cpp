#include "execution_error.h"
#include "op_call.h"

#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace autosp::interp {
namespace {

std::int64_t FloorDivide(std::int64_t a, std::int64_t b) {
  if (b == 0) throw ExecutionError("division of " + std::to_string(a) + " by zero");
  return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}

template <typename T>
bool Arithmetic(std::string_view name, T a, T b, c10::IValue& result) {
  if (name == "eq") return result = a == b, true;
  if (name == "ne") return result = a != b, true;
  if (name == "lt") return result = a < b, true;
  if (name == "le") return result = a <= b, true;
  if (name == "gt") return result = a > b, true;
  if (name == "ge") return result = a >= b, true;
  if (name == "add") return result = a + b, true;
  if (name == "sub") return result = a - b, true;
  if (name == "mul") return result = a * b, true;
  if (name == "max") return result = a < b ? b : a, true;
  if (name == "min") return result = b < a ? b : a, true;
  return false;
}

double AsDouble(const c10::IValue& value) {
  return value.isDouble() ? value.toDouble() : static_cast<double>(value.toInt());
}

c10::IValue Unary(const std::string& op, std::string_view name, const c10::IValue& a) {
  if (name == "neg") return a.isInt() ? c10::IValue(-a.toInt()) : c10::IValue(-a.toDouble());
  if (name == "pos") return a;
  if (name == "not") return a.isInt() ? a.toInt() == 0 : a.toDouble() == 0;
  if (name == "float") return AsDouble(a);
  if (name == "int" || name == "trunc") return static_cast<std::int64_t>(AsDouble(a));
  if (name == "floor") return a.isInt() ? a : c10::IValue(static_cast<std::int64_t>(std::floor(a.toDouble())));
  if (name == "ceil") return a.isInt() ? a : c10::IValue(static_cast<std::int64_t>(std::ceil(a.toDouble())));
  if (name == "sqrt") return std::sqrt(AsDouble(a));
  throw ExecutionError("the simulator does not know the operation " + op + " of one operand");
}

c10::IValue Binary(const std::string& op, std::string_view name, const c10::IValue& a, const c10::IValue& b) {
  c10::IValue result;
  if (name == "truediv") {
    if (AsDouble(b) == 0) throw ExecutionError("division by zero");
    return AsDouble(a) / AsDouble(b);
  }
  if (name == "pow") {
    const double power = std::pow(AsDouble(a), AsDouble(b));
    return a.isInt() && b.isInt() && b.toInt() >= 0 ? c10::IValue(static_cast<std::int64_t>(power)) : c10::IValue(power);
  }
  if (a.isInt() && b.isInt()) {
    if (Arithmetic(name, a.toInt(), b.toInt(), result)) return result;
    if (name == "floordiv") return FloorDivide(a.toInt(), b.toInt());
    if (name == "ceildiv") return -FloorDivide(-a.toInt(), b.toInt());
    if (name == "mod") return a.toInt() - b.toInt() * FloorDivide(a.toInt(), b.toInt());
    if (name == "and") return a.toInt() != 0 && b.toInt() != 0;
    if (name == "or") return a.toInt() != 0 || b.toInt() != 0;
  } else {
    if (Arithmetic(name, AsDouble(a), AsDouble(b), result)) return result;
    if (name == "floordiv") return std::floor(AsDouble(a) / AsDouble(b));
  }
  throw ExecutionError("the simulator does not know the operation " + op + " of two operands");
}

}  // namespace

c10::IValue EvaluateSymbolic(const Node& node, const RankScope& scope) {
  const std::string_view name = std::string_view(node.op).substr(std::string_view("sym.").size());
  std::vector<c10::IValue> operands;
  for (const Argument& argument : node.args) {
    c10::IValue value = EvaluateArgument(argument, scope);
    if (value.isBool()) value = static_cast<std::int64_t>(value.toBool());
    if (!value.isInt() && !value.isDouble()) {
      throw ExecutionError(node.op + " wants numbers, not " + DescribeValue(value));
    }
    operands.push_back(std::move(value));
  }
  if (operands.size() == 1) return Unary(node.op, name, operands[0]);
  if (operands.size() < 2) throw ExecutionError(node.op + " wants operands");
  c10::IValue result = operands[0];
  // max and min take any number of operands; the others are met with two.
  if (operands.size() > 2 && name != "max" && name != "min") {
    throw ExecutionError(node.op + " wants one or two operands, not " + std::to_string(operands.size()));
  }
  for (std::size_t i = 1; i < operands.size(); ++i) result = Binary(node.op, name, result, operands[i]);
  return result;
}

}  // namespace autosp::interp
