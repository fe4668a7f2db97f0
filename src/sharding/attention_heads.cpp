#include <autosp/sharding/attention_heads.h>

#include <autosp/sharding/reach.h>

#include <algorithm>
#include <set>

namespace autosp {
namespace {

constexpr const char* kAttention = "aten.scaled_dot_product_attention";

std::int64_t HeadsOfOperand(const Node& attention, int argument) {
  const Node* value = attention.args[argument].node();
  if (value == nullptr || value->type.rank() < 3) return 0;
  return value->type.shape[value->type.shape.size() - 3].constant().value_or(0);
}

}  // namespace

std::optional<AttentionHeads> HeadsOf(const Node& attention) {
  if (attention.args.size() < 3) return std::nullopt;
  const AttentionHeads heads{HeadsOfOperand(attention, 0), HeadsOfOperand(attention, 1), HeadsOfOperand(attention, 2)};
  if (heads.query <= 0 || heads.key <= 0 || heads.value <= 0) return std::nullopt;
  if (heads.query % heads.key != 0 || heads.query % heads.value != 0) return std::nullopt;
  return heads;
}

std::vector<Node*> AttentionsUnderCut(const Graph& graph) {
  const std::set<const Node*> reached = ReachedByCut(graph);
  std::vector<Node*> attentions;
  for (const auto& node : graph.nodes()) {
    if (!node->is_call(kAttention) || node->args.size() < 3) continue;
    const bool cut = std::any_of(node->args.begin(), node->args.begin() + 3,
                                 [&](const Argument& argument) { return reached.contains(argument.node()); });
    if (cut) attentions.push_back(node.get());
  }
  return attentions;
}

std::int64_t RoundUp(std::int64_t number, std::int64_t step) { return (number + step - 1) / step * step; }

}  // namespace autosp
