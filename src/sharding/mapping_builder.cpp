#include "mapping_builder.h"

#include <fmt/format.h>

#include <algorithm>

namespace autosp {

MappingBuilder::MappingBuilder(const Node& the_node, const OpRule& rule) : node(the_node), arguments(the_node, rule) {
  int slot = 0;
  const auto add = [&](const std::string& parameter, const Argument& argument) {
    ForEachNode(argument, [&](Node* value) {
      if (value->type.is_tensor()) {
        operands_of_[parameter].push_back(static_cast<int>(mapping.operands.size()));
        OperandFactors operand;
        operand.value = value;
        operand.slot = slot;
        operand.dims.resize(value->type.shape.size());
        mapping.operands.push_back(std::move(operand));
      }
      ++slot;
    });
  };
  for (std::size_t i = 0; i < node.args.size(); ++i) {
    add(i < rule.parameters.size() ? rule.parameters[i] : std::to_string(i), node.args[i]);
  }
  for (const auto& [name, argument] : node.attributes) add(name, argument);
  if (node.type.is_tensor()) result_types_.push_back(&node.type);
  for (const Type& element : node.type.elements) {
    if (element.is_tensor()) result_types_.push_back(&element);
  }
  for (const Type* type : result_types_) mapping.results.emplace_back(type->shape.size());
}

int MappingBuilder::AddFactor(const Dim& size, FactorKind kind) {
  mapping.factors.push_back(Factor{size, kind, ReduceOp::kSum});
  return static_cast<int>(mapping.factors.size()) - 1;
}

const std::vector<int>& MappingBuilder::OperandsOf(std::string_view parameter) const {
  static const std::vector<int> kNone;
  const auto found = operands_of_.find(parameter);
  return found == operands_of_.end() ? kNone : found->second;
}

OperandFactors* MappingBuilder::Operand(std::string_view parameter) {
  const std::vector<int>& operands = OperandsOf(parameter);
  return operands.size() == 1 ? &mapping.operands[operands[0]] : nullptr;
}

int MappingBuilder::Normalize(std::int64_t dim, int rank) {
  if (dim < 0) dim += rank;
  return dim >= 0 && dim < rank ? static_cast<int>(dim) : -1;
}

void MappingBuilder::CompareSizes(const DimFactors& dims, const std::vector<Dim>& shape, const std::string& what) {
  for (std::size_t dim = 0; dim < dims.size(); ++dim) {
    if (dims[dim].empty()) continue;
    Dim product = 1;
    for (const int factor : dims[dim]) product = product * mapping.factors[factor].size;
    if (product != shape[dim]) {
      mapping.unequal_sizes.emplace_back(product, shape[dim]);
      mapping.size_conflicts.push_back(fmt::format("{} dim {} is {}, but the operation runs over {}", what, dim,
                                                   shape[dim].ToString(), product.ToString()));
    }
  }
}

void MappingBuilder::SumOver(int operand) {
  mapping.neutral_operand = operand;
  const DimFactors& dims = mapping.operands[operand].dims;
  for (std::size_t f = 0; f < mapping.factors.size(); ++f) {
    const bool found = std::any_of(dims.begin(), dims.end(), [&](const std::vector<int>& list) {
      return std::find(list.begin(), list.end(), static_cast<int>(f)) != list.end();
    });
    if (mapping.factors[f].kind == FactorKind::kReduction && !found) mapping.factors[f].kind = FactorKind::kWhole;
  }
}

FactorMapping MappingBuilder::Finish() {
  for (std::size_t f = 0; f < mapping.factors.size(); ++f) {
    if (mapping.factors[f].kind != FactorKind::kPassThrough) continue;
    for (const DimFactors& dims : mapping.results) {
      const bool found = std::any_of(dims.begin(), dims.end(), [&](const std::vector<int>& list) {
        return std::find(list.begin(), list.end(), static_cast<int>(f)) != list.end();
      });
      // A result without this loop would be computed from a part of it: that is a reduction, and none was declared.
      if (!found) mapping.factors[f].kind = FactorKind::kWhole;
    }
  }
  for (const OperandFactors& operand : mapping.operands) {
    if (operand.read) CompareSizes(operand.dims, operand.value->type.shape, "%" + operand.value->name);
  }
  for (std::size_t r = 0; r < mapping.results.size(); ++r) {
    CompareSizes(mapping.results[r], result_types_[r]->shape, "the result's");
  }
  return std::move(mapping);
}

DimFactors FreshFactors(MappingBuilder& builder, const std::vector<Dim>& shape) {
  DimFactors factors(shape.size());
  for (std::size_t dim = 0; dim < shape.size(); ++dim) {
    if (!shape[dim].is_one()) factors[dim] = {builder.AddFactor(shape[dim])};
  }
  return factors;
}

DimFactors BroadcastFactors(const std::vector<Dim>& shape, const std::vector<Dim>& result, const DimFactors& factors) {
  DimFactors dims(shape.size());
  if (shape.size() > result.size()) return dims;
  const std::size_t shift = result.size() - shape.size();
  for (std::size_t dim = 0; dim < shape.size(); ++dim) {
    if (!shape[dim].is_one()) dims[dim] = factors[dim + shift];
  }
  return dims;
}

Expected<FactorMapping> MapFactors(const Node& node, const OpRule& rule) {
  MappingBuilder builder(node, rule);
  if (rule.is_function()) {
    FindRuleFunction(rule.function)(builder);
  } else {
    MapEinsum(builder);
  }
  return builder.Finish();
}

}  // namespace autosp
