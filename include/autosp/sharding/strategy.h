#pragma once

#include <autosp/sharding/factor_mapping.h>
#include <autosp/sharding/op_rules.h>

#include <optional>
#include <string>
#include <vector>

namespace autosp {

// How one node runs over the ranks: the factor that is cut (nothing: every rank computes all of it), and what follows.
struct Strategy {
  std::optional<FactorSharding> cut;
  std::vector<Layout> operands;  // needed, per FactorMapping::operands; unset where any layout will do
  std::vector<Layout> results;   // computed, per FactorMapping::results
};

// The layouts that follow from cutting `cut`.
Strategy StrategyFor(const FactorMapping& mapping, std::optional<FactorSharding> cut);

// Whether an op that knows a repair (attention) must use it: some operand is cut on a factor that is needed whole.
bool NeedsRepair(const FactorMapping& mapping, const std::vector<Layout>& operands);

// The strategy that computes `node` given the layouts in the types: of its results (as its readers see them) and of its
// operands. A repaired op computes on the repair factor; its readers see the result after it was exchanged back. An
// operand that lies cut on that factor decides in which groups it is cut: (2@sp, 4) heads rather than 8@sp.
Strategy StrategyOf(const Node& node, const FactorMapping& mapping, bool repair_allowed);

// The local size of a dim under a layout: major * ceil(length / P) * minor for the sharded dim.
Dim LocalSize(const Graph& graph, const Layout& layout, int dim, const Dim& global_size);
std::vector<Dim> LocalShape(const Graph& graph, const Type& type);

// Bytes that one rank sends when a value changes its layout, forward; shapes evaluated at graph.hints().
//   sharded -> replicated n(P-1)/P   sharded -> sharded n(P-1)/P^2   partial -> replicated 2n(P-1)/P
//   partial -> sharded n(P-1)/P   replicated -> anything 0            (n: bytes of the whole value)
double ReshardBytes(const Graph& graph, const Type& type, const Layout& from, const Layout& to);

// Who makes a value: the node itself, or the tuple that a builtin.getitem takes it from, and which tensor of that it
// is.
struct Producer {
  const Node* node = nullptr;
  std::size_t tensor = 0;  // Past the last one when the element is no tensor.
};
Producer ProducerOf(const Node& value);

// The layouts of the tensor results of a node (one, or the elements of its tuple).
std::vector<Layout> ResultLayouts(const Node& node);
void SetResultLayouts(Node& node, const std::vector<Layout>& layouts);

}  // namespace autosp
