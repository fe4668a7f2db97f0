#pragma once

#include <autosp/ir/graph.h>
#include <autosp/sharding/factor_mapping.h>
#include <autosp/sharding/op_rules.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace autosp {

// What is known of one value of a partitioned graph.
struct KnownLayout {
  Layout layout = Layout::Replicated();  // length, major and minor are those of the whole value
  std::optional<double> tail;            // What its padded tail holds, when that is known.
};

// A call that runs on one factor, and the operands that this was read from.
struct CutCall {
  FactorMapping mapping;  // From whole shapes; its operands stand in the order of `operands`.
  FactorSharding cut;
  std::vector<const Node*> operands;  // Tensor operands, in slot order.
};

// Everything that the ops and collectives of a partitioned graph say about its values.
struct PartitionFacts {
  std::map<const Node*, std::vector<KnownLayout>> layouts;  // Of calls and inputs, one per tensor or tuple element.
  std::map<const Node*, CutCall> cuts;                      // Of calls with operands that are not whole. Look up only.
  const KnownLayout& Of(const Node& node) const;            // The first one; whole when nothing is known.
};

// Derives a layout for every value, from the first to the last, from ops, local shapes and collectives alone:
//  1. inputs are whole; a collective takes the layout that its attributes name and gives the one that they name.
//  2. a call runs on one factor: every operand that has it is cut on it alike, the factor may be cut, sizes agree; a
//     summed factor makes the result partial. Factors are those of the whole call, since a local size of 1 would look
//     like a dim that is broadcast: taken from `whole`, or from the shapes of the one whole call that fits.
//  3. a partial value is read by its reduction only; where P does not divide a summed factor its tail was masked.
// kLayoutConflict for each place that breaks a rule.
Status DeriveLayouts(const Graph& partitioned, const Graph* whole, const RuleTable& rules, PartitionFacts& facts);

// Compares a partitioned graph with the whole program that it came from: apart from collectives and integer arithmetic
// it holds the same calls, with the same arguments, read from the same values, and returns the same ones; sizes are the
// local ones where a dim is cut; local shapes and gradients follow from the whole types. So two exchanges whose
// operands were swapped are seen, though every layout fits. kLayoutConflict for each place.
Status CheckCorrespondence(const Graph& partitioned, const Graph& whole, const RuleTable& rules,
                           const PartitionFacts& facts, const std::string& outputs);

// Follows the cotangents from the outputs to the trained inputs: what each rank holds of the gradient of every value.
// kCotangentConflict where averaging over the ranks would not give the gradient of the whole program. The proof that
// this suffices is in docs/propagation.md.
Status CheckCotangents(const Graph& partitioned, const PartitionFacts& facts);

}  // namespace autosp
