#include <autosp/sharding/reach.h>

#include <algorithm>

namespace autosp {
std::set<const Node*> ReachedByCut(const Graph& graph) {
  std::set<const Node*> tagged;
  std::set<const Node*> reached;
  for (const auto& node : graph.nodes()) {
    const std::vector<Node*> operands = node->operands();
    const auto any_in = [&](const std::set<const Node*>& values) {
      return std::any_of(operands.begin(), operands.end(), [&](const Node* value) { return values.contains(value); });
    };
    if (node->seq_dim < 0 && !any_in(tagged)) continue;
    tagged.insert(node.get());
    if (node->is_call() && (RequiresGrad(node->type) || any_in(reached))) reached.insert(node.get());
  }
  return reached;
}

}  // namespace autosp
