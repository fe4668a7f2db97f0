#include "scalar_ops.h"

#include <algorithm>

namespace autosp::frontend {
namespace {

std::optional<bool> Compare(std::string_view kind, std::int64_t a, std::int64_t b) {
  if (kind == "aten::eq") return a == b;
  if (kind == "aten::ne") return a != b;
  if (kind == "aten::lt") return a < b;
  if (kind == "aten::le") return a <= b;
  if (kind == "aten::gt") return a > b;
  if (kind == "aten::ge") return a >= b;
  return std::nullopt;
}

std::optional<Dim> Arithmetic(std::string_view kind, const Dim& a, const Dim& b) {
  if (kind == "aten::add") return a + b;
  if (kind == "aten::sub") return a - b;
  if (kind == "aten::mul") return a * b;
  if (kind == "aten::floordiv" || kind == "aten::floor_divide") return FloorDiv(a, b);
  if (kind == "aten::remainder") return Mod(a, b);
  if (kind == "prim::max") return Max(a, b);
  if (kind == "prim::min") return Min(a, b);
  return std::nullopt;
}

// A comparison must come out alike at every length. The longer probe alone may differ: the program then ends there.
ScalarResult Decide(std::string_view kind, const Dim& a, const Dim& b, LengthProbes& probes) {
  std::vector<bool> answers;
  for (std::size_t probe = 0; probe < probes.count(); ++probe) {
    answers.push_back(*Compare(kind, probes.At(a, probe).value_or(0), probes.At(b, probe).value_or(0)));
  }
  if (probes.is_longer(answers.size() - 1) && answers.back() != answers.front()) {
    const std::size_t before = probes.count();
    probes.ForgetLonger();
    answers.resize(answers.size() - (before - probes.count()));
  }
  if (std::all_of(answers.begin(), answers.end(), [&](bool answer) { return answer == answers.front(); })) {
    return {ScriptValue::Constant(static_cast<bool>(answers.front())), ""};
  }
  return {{}, "the comparison of " + a.ToString() + " and " + b.ToString() + " has another result at another length"};
}

}  // namespace

std::optional<ScalarResult> EvaluateScalar(std::string_view kind, const std::vector<ScriptValue>& operands,
                                           LengthProbes& probes) {
  const bool integers = !operands.empty() && std::all_of(operands.begin(), operands.end(),
                                                         [](const ScriptValue& v) { return v.is_integer(); });
  if (!integers) return std::nullopt;
  if (operands.size() == 1) {
    if (kind == "aten::neg") return ScalarResult{ScriptValue::Int(Dim(0) - operands[0].dim()), ""};
    if (kind == "aten::Int" || kind == "prim::NumToTensor" || kind == "aten::ScalarImplicit" ||
        kind == "aten::IntImplicit") {
      return ScalarResult{operands[0], ""};
    }
    return std::nullopt;
  }
  // Traced sizes are tensors, whose sum has a third operand, alpha = 1.
  if (operands.size() == 3 && !(operands[2].is_constant() && operands[2].dim() == Dim(1))) return std::nullopt;
  const Dim a = operands[0].dim(), b = operands[1].dim();
  if (Compare(kind, 0, 0)) return Decide(kind, a, b, probes);
  if (const auto result = Arithmetic(kind, a, b)) return ScalarResult{ScriptValue::Int(*result), ""};
  return std::nullopt;
}

}  // namespace autosp::frontend
