#include "mapping_builder.h"

#include <algorithm>

namespace autosp {
namespace {

// Walks a term over a shape: f(name, position of the dim); `*` stands for "*0", "*1", ... counted from the left.
template <typename F>
void ForEachDim(const RuleTerm& term, int rank, const F& f) {
  const int named = static_cast<int>(
      std::count_if(term.dims.begin(), term.dims.end(), [](const std::string& name) { return name != "*"; }));
  int dim = 0;
  for (const std::string& name : term.dims) {
    if (name != "*") {
      f(name, dim++);
      continue;
    }
    for (int i = 0; i < rank - named; ++i) f("*" + std::to_string(i), dim++);
  }
}

bool Fits(const RuleTerm& term, int rank) {
  const bool star = std::find(term.dims.begin(), term.dims.end(), "*") != term.dims.end();
  const int dims = static_cast<int>(term.dims.size());
  return star ? rank >= dims - 1 : rank == dims;
}

}  // namespace

void MapEinsum(MappingBuilder& builder) {
  const OpRule& rule = builder.arguments.rule();
  OperandFactors* const bias = rule.bias.empty() ? nullptr : builder.Operand(rule.bias);
  std::vector<std::pair<OperandFactors*, const RuleTerm*>> operands;
  // Parameter i is operand i; user rules without parameter names count positional arguments.
  for (std::size_t i = 0; i < rule.operands.size(); ++i) {
    const std::string parameter = i < rule.parameters.size() ? rule.parameters[i] : std::to_string(i);
    OperandFactors* operand = builder.Operand(parameter);
    if (operand == nullptr) {
      if (rule.operands[i].optional) continue;
      return;  // A required operand that is no tensor: a form the rule does not cover.
    }
    if (operand == bias) continue;
    if (!Fits(rule.operands[i], operand->value->type.rank())) return;
    operands.emplace_back(operand, &rule.operands[i]);
  }
  for (std::size_t r = 0; r < builder.result_count(); ++r) {
    if (r >= rule.results.size() || !Fits(rule.results[r], builder.ResultType(r).rank())) return;
  }
  const auto has = [](const std::vector<std::string>& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  std::map<std::string, int> factor_of;
  for (auto& [operand, term] : operands) {
    const std::vector<Dim>& shape = builder.ShapeOf(*operand);
    ForEachDim(*term, static_cast<int>(shape.size()), [&, target = operand](const std::string& name, int dim) {
      if (shape[dim].is_one()) return;  // Broadcast, or a loop of one round.
      if (!factor_of.contains(name)) {
        FactorKind kind = FactorKind::kPassThrough;
        if (has(rule.whole, name)) kind = FactorKind::kWhole;
        if (has(rule.reduction, name)) kind = bias != nullptr ? FactorKind::kWhole : FactorKind::kReduction;
        factor_of[name] = builder.AddFactor(shape[dim], kind);
      }
      target->dims[dim] = {factor_of[name]};
    });
  }
  for (std::size_t r = 0; r < builder.result_count(); ++r) {
    ForEachDim(rule.results[r], builder.ResultType(r).rank(), [&](const std::string& name, int dim) {
      if (factor_of.contains(name)) builder.mapping.results[r][dim] = {factor_of[name]};
    });
  }
  if (bias != nullptr) {  // Added to the result, broadcast.
    bias->dims = BroadcastFactors(builder.ShapeOf(*bias), builder.ResultType(0).shape, builder.mapping.results[0]);
  }
  // A padded tail of a summed factor is silenced in the first operand.
  if (!rule.reduction.empty() && bias == nullptr && !operands.empty()) {
    builder.SumOver(static_cast<int>(operands[0].first - builder.mapping.operands.data()));
  }
}

}  // namespace autosp
