#include "execution_error.h"
#include "op_call.h"

#include <cmath>
#include <cstdint>
#include <cstdlib>
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
  if (name == "abs") return a.isInt() ? c10::IValue(std::abs(a.toInt())) : c10::IValue(std::fabs(a.toDouble()));
  // To even, as Python does.
  if (name == "round") return a.isInt() ? a : c10::IValue(static_cast<std::int64_t>(std::nearbyint(a.toDouble())));
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
    return a.isInt() && b.isInt() && b.toInt() >= 0 ? c10::IValue(static_cast<std::int64_t>(power))
                                                    : c10::IValue(power);
  }
  if (a.isInt() && b.isInt()) {
    if (Arithmetic(name, a.toInt(), b.toInt(), result)) return result;
    if (name == "floordiv") return FloorDivide(a.toInt(), b.toInt());
    if (name == "ceildiv") return -FloorDivide(-a.toInt(), b.toInt());
    if (name == "mod") return a.toInt() - b.toInt() * FloorDivide(a.toInt(), b.toInt());
    if (name == "and") return a.toInt() & b.toInt();
    if (name == "or") return a.toInt() | b.toInt();
    if (name == "xor") return a.toInt() ^ b.toInt();
    const bool shifts = b.toInt() >= 0 && b.toInt() < 63;
    if (name == "lshift" && shifts) return a.toInt() * (std::int64_t{1} << b.toInt());
    if (name == "rshift" && shifts) return FloorDivide(a.toInt(), std::int64_t{1} << b.toInt());
  } else {
    if (Arithmetic(name, AsDouble(a), AsDouble(b), result)) return result;
    if (name == "floordiv") return std::floor(AsDouble(a) / AsDouble(b));
  }
  throw ExecutionError("the simulator does not know the operation " + op + " of two operands");
}

// Numbers, and those inside of lists (sym.sum takes one list); a truth value counts as 0 or 1, as in Python.
void Flatten(const std::string& op, const c10::IValue& value, std::vector<c10::IValue>& operands) {
  if (value.isList()) {
    for (const c10::IValue& element : value.toListRef()) Flatten(op, element, operands);
  } else if (value.isBool()) {
    operands.emplace_back(static_cast<std::int64_t>(value.toBool()));
  } else if (value.isInt() || value.isDouble()) {
    operands.push_back(value);
  } else {
    throw ExecutionError(op + " wants numbers, not " + DescribeValue(value));
  }
}

bool BothAreBool(const Node& node, const RankScope& scope) {
  for (const Argument& argument : node.args) {
    if (!EvaluateArgument(argument, scope).isBool()) return false;
  }
  return true;
}

}  // namespace

c10::IValue EvaluateSymbolic(const Node& node, const RankScope& scope) {
  const std::string_view name = std::string_view(node.op).substr(std::string_view("sym.").size());
  std::vector<c10::IValue> operands;
  for (const Argument& argument : node.args) Flatten(node.op, EvaluateArgument(argument, scope), operands);
  if (operands.empty()) throw ExecutionError(node.op + " wants operands");
  if (name == "ite" && operands.size() == 3) return operands[AsDouble(operands[0]) != 0 ? 1 : 2];
  const bool is_logic = name == "and" || name == "or" || name == "xor";
  if (is_logic && operands.size() == 2 && BothAreBool(node, scope)) {
    return Binary(node.op, name, operands[0], operands[1]).toInt() != 0;
  }
  const bool any_number = name == "max" || name == "min" || name == "sum";
  if (operands.size() == 1 && !any_number) return Unary(node.op, name, operands[0]);
  if (operands.size() > 2 && !any_number) {
    throw ExecutionError(node.op + " wants one or two operands, not " + std::to_string(operands.size()));
  }
  c10::IValue result = operands[0];
  for (std::size_t i = 1; i < operands.size(); ++i) {
    result = Binary(node.op, name == "sum" ? "add" : name, result, operands[i]);
  }
  return result;
}

}  // namespace autosp::interp
