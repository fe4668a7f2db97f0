#pragma once

#include <autosp/ir/graph.h>

#include <optional>
#include <vector>

namespace autosp {

// The numbers of heads of a call of aten.scaled_dot_product_attention: the sizes of dim -3 of its operands.
struct AttentionHeads {
  std::int64_t query = 0, key = 0, value = 0;
};

// Nothing when an operand has less than 3 dims, a number of heads is a symbol, or kv heads do not divide query heads.
std::optional<AttentionHeads> HeadsOf(const Node& attention);

// The attentions whose query, key or value a cut of the sequence can reach (reach.h), in program order.
std::vector<Node*> AttentionsUnderCut(const Graph& graph);

// The least multiple of `step` that is not below `number`: RoundUp(7, 4) is 8.
std::int64_t RoundUp(std::int64_t number, std::int64_t step);

}  // namespace autosp
