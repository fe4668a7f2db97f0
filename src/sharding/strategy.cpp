#include <autosp/sharding/strategy.h>

#include <algorithm>

namespace autosp {

Strategy StrategyFor(const FactorMapping& mapping, std::optional<FactorSharding> cut) {
  Strategy strategy;
  strategy.cut = cut;
  for (const OperandFactors& operand : mapping.operands) {
    Layout needed;
    if (operand.read) {
      needed = cut ? LayoutUnder(*cut, operand.dims, mapping.factors) : Layout::Replicated();
    }
    strategy.operands.push_back(needed);
  }
  for (const DimFactors& dims : mapping.results) {
    Layout result = cut ? LayoutUnder(*cut, dims, mapping.factors) : Layout::Replicated();
    if (cut && result.is_replicated() && mapping.factors[cut->factor].kind == FactorKind::kReduction) {
      result = Layout::Partial(mapping.factors[cut->factor].reduce);
    }
    if (mapping.makes_terms) result = Layout::Partial(*mapping.makes_terms);
    strategy.results.push_back(result);
  }
  return strategy;
}

namespace {

// The repair factor in the groups in which some operand lies cut on it already; nothing when none does.
std::optional<FactorSharding> CutOnRepair(const FactorMapping& mapping, const std::vector<Layout>& operands) {
  if (mapping.repair_to < 0) return std::nullopt;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    if (!mapping.operands[i].read) continue;
    std::optional<FactorSharding> cut = ProjectLayout(operands[i], mapping.operands[i].dims, mapping.factors);
    if (cut && cut->factor == mapping.repair_to) return cut;
  }
  return std::nullopt;
}

}  // namespace

bool NeedsRepair(const FactorMapping& mapping, const std::vector<Layout>& operands) {
  if (mapping.repair_to < 0) return false;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    if (!operands[i].is_sharded() || !mapping.operands[i].read) continue;
    const std::optional<FactorSharding> cut = ProjectLayout(operands[i], mapping.operands[i].dims, mapping.factors);
    if (cut && mapping.factors[cut->factor].kind == FactorKind::kWhole) return true;
  }
  return false;
}

Strategy StrategyOf(const Node& node, const FactorMapping& mapping, bool repair_allowed) {
  const std::vector<Layout> results = ResultLayouts(node);
  std::vector<Layout> operands;
  for (const OperandFactors& operand : mapping.operands) operands.push_back(operand.value->type.layout);
  const std::optional<FactorSharding> on_repair = CutOnRepair(mapping, operands);
  for (std::size_t r = 0; r < results.size(); ++r) {
    if (!results[r].is_sharded()) continue;
    const std::optional<FactorSharding> cut = ProjectLayout(results[r], mapping.results[r], mapping.factors);
    // A result that is cut where the op needs the whole factor was computed on the repair factor and exchanged back;
    // so was one whose keys or values arrive cut.
    const bool repaired = mapping.repair_to >= 0 && repair_allowed &&
                          (!cut || mapping.factors[cut->factor].kind == FactorKind::kWhole || on_repair ||
                           NeedsRepair(mapping, operands));
    if (repaired) {
      const FactorSharding all{mapping.repair_to, 1, mapping.factors[mapping.repair_to].size, 1};
      return StrategyFor(mapping, on_repair.value_or(all));
    }
    return StrategyFor(mapping, cut);
  }
  for (const Layout& result : results) {
    if (!result.is_partial()) continue;
    for (std::size_t i = 0; i < operands.size(); ++i) {
      const std::optional<FactorSharding> cut = ProjectLayout(operands[i], mapping.operands[i].dims, mapping.factors);
      if (cut && mapping.factors[cut->factor].kind == FactorKind::kReduction) return StrategyFor(mapping, cut);
    }
  }
  return StrategyFor(mapping, std::nullopt);
}

Dim LocalSize(const Graph& graph, const Layout& layout, int dim, const Dim& global_size) {
  if (!layout.is_sharded() || layout.dim != dim) return global_size;
  const std::int64_t ranks = graph.axis_size();
  const Dim block =
      graph.IsDivisible(layout.length, ranks) ? FloorDiv(layout.length, ranks) : CeilDiv(layout.length, ranks);
  return layout.major * block * layout.minor;
}

std::vector<Dim> LocalShape(const Graph& graph, const Type& type) {
  std::vector<Dim> shape = type.shape;
  for (std::size_t dim = 0; dim < shape.size(); ++dim) {
    shape[dim] = LocalSize(graph, type.layout, static_cast<int>(dim), shape[dim]);
  }
  return shape;
}

double ReshardBytes(const Graph& graph, const Type& type, const Layout& from, const Layout& to) {
  if (from == to || from.is_replicated() || to.is_unset() || !type.is_tensor()) return 0;
  double bytes = ByteSize(type.dtype);
  // A symbol without a hint counts as 1024: any fixed number keeps the choice equal on all ranks.
  for (const Dim& dim : type.shape) bytes *= static_cast<double>(dim.Evaluate(graph.hints()).value_or(1024));
  const auto ranks = static_cast<double>(graph.axis_size());
  const double share = (ranks - 1) / ranks;
  if (from.is_sharded()) return to.is_sharded() ? bytes * share / ranks : bytes * share;
  return to.is_sharded() ? bytes * share : 2 * bytes * share;
}

Producer ProducerOf(const Node& value) {
  const Node* tuple = value.is_call("builtin.getitem") && value.args.size() == 2 ? value.args[0].node() : nullptr;
  if (tuple == nullptr) return {&value, 0};
  const std::vector<Type>& elements = tuple->type.elements;
  const auto* index = value.args[1].get<std::int64_t>();
  std::int64_t position = index == nullptr ? -1 : *index;
  if (index != nullptr && position < 0) position += std::ssize(elements);
  if (position < 0 || position >= std::ssize(elements) || !value.type.is_tensor()) {
    return {tuple, elements.size()};
  }
  const auto before = std::count_if(elements.begin(), elements.begin() + position,
                                    [](const Type& element) { return element.is_tensor(); });
  return {tuple, static_cast<std::size_t>(before)};
}

std::vector<Layout> ResultLayouts(const Node& node) {
  std::vector<Layout> layouts;
  for (const Type* type : TensorsOf(node.type)) layouts.push_back(type->layout);
  return layouts;
}

void SetResultLayouts(Node& node, const std::vector<Layout>& layouts) {
  std::size_t next = 0;
  for (Type* type : TensorsOf(node.type)) type->layout = layouts.at(next++);
}

}  // namespace autosp
