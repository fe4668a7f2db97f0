#pragma once

#include <autosp/ir/graph.h>

#include <optional>
#include <string>
#include <vector>

namespace autosp {

struct OpRule;

// What may be done with a factor of an operation.
enum class FactorKind : std::uint8_t {
  kPassThrough,  // in operands and results: each rank may compute its block
  kReduction,    // in operands only: each rank computes a term, the results are partial
  kWhole,        // every rank needs all of it
};

// One loop of an operation, as in an einsum: linear has the factors of `*`, k (reduction) and n.
struct Factor {
  Dim size;
  FactorKind kind = FactorKind::kPassThrough;
  ReduceOp reduce = ReduceOp::kSum;  // kReduction only
  bool ordered = false;  // An element is computed from its neighbours too: only a cut in one run of blocks makes sense.
};

// The factors of each dim of one value, outermost first; a dim of size 1 or a broadcast dim has none.
using DimFactors = std::vector<std::vector<int>>;

struct OperandFactors {
  Node* value = nullptr;
  int slot = -1;  // Position among OperandSlots(node).
  DimFactors dims;
  bool read = true;  // False: only its dtype, device or shape is looked at, any layout will do.
};

// How the loops of one node run over its operands and results.
//   %o = aten.linear(%x: [b, s, k], %w: [n, k])    factors b, s, k(reduction), n
//   operands {[[0], [1], [2]], [[3], [2]]}   results {[[0], [1], [3]]}
struct FactorMapping {
  std::vector<Factor> factors;
  std::vector<OperandFactors> operands;  // Tensor operands, in slot order.
  std::vector<DimFactors> results;       // One per tensor result (tuple elements in order).
  bool random = false;                   // The op draws random numbers.
  // Every rank makes a term of its own, whatever the operands are, and this reduces them: the draw of a seed.
  std::optional<ReduceOp> makes_terms;
  // Ulysses: when an operand arrives sharded on `repair_from` (the query sequence) or on the key sequence, the op may
  // compute on `repair_to` (the head factor) instead, and its result goes back to `repair_from`. -1: no repair known.
  int repair_from = -1;
  int repair_to = -1;
  std::int64_t query_heads = 0;  // For the message of a refused repair.
  // Padding of a sharded kReduction factor must not be seen: this operand is masked with this value first.
  int neutral_operand = -1;
  double neutral_value = 0;
  // Where an operand dim disagrees with the factor it was mapped to (both sizes), e.g. after a collective was lost.
  std::vector<std::string> size_conflicts;
  std::vector<std::pair<Dim, Dim>> unequal_sizes;  // The sizes of each conflict.
};

// Every place in args and attributes that holds a value, in order, nested ones included.
std::vector<Node**> OperandSlots(Node& node);

// The mapping of `node` under `rule`, from the shapes in the types (global or local alike).
Expected<FactorMapping> MapFactors(const Node& node, const OpRule& rule);

// The sharded part of a factor: factor = major x length x minor.
struct FactorSharding {
  int factor = -1;
  Dim major = 1, length = 0, minor = 1;
  bool operator==(const FactorSharding&) const = default;
};

// Which factor a sharded layout of a value with these dims falls on; nothing if it straddles factors.
std::optional<FactorSharding> ProjectLayout(const Layout& layout, const DimFactors& dims,
                                            const std::vector<Factor>& factors);
// The layout that a value with these dims has when `sharding` is cut; replicated if the factor is not in it.
Layout LayoutUnder(const FactorSharding& sharding, const DimFactors& dims, const std::vector<Factor>& factors);

}  // namespace autosp
