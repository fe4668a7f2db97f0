#pragma once

#include <autosp/sharding/strategy.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace autosp {

class RuleTable;

// How one call would run if it were cut over the ranks. Which calls are is decided afterwards (sharding_cut.h).
struct CutCandidate {
  bool has_rule = false;
  FactorMapping mapping;
  std::optional<FactorSharding> cut;  // What it would compute on; nothing: every rank computes all of it.
  Strategy strategy;                  // What that needs of its operands and gives, per StrategyFor(mapping, cut).
  std::vector<Layout> visible;        // What its readers see of the results: as given, or exchanged back (attention).
  bool repaired = false;              // Attention on heads instead of positions.
  bool exchanged = false;             // Part of a region that runs on heads (written-out attention).
  bool trained = false;               // A result requires a gradient.
  bool counts_as_cut = false;         // Later candidates were chosen as if this one were cut.
  int primary = -1;                   // The operand that offered the cut; -1 when none did.
};

struct CandidateOptions {
  // Attention with cut keys, and matrix products whose operands are cut on two of their loops: computed on a loop that
  // all of them have (the heads), exchanged there and back (Ulysses). Otherwise one side is gathered.
  bool exchange_to_heads = true;
};

// One candidate per call that the table has a row for, and what was found on the way.
class CutCandidates {
 public:
  // A candidate follows the tagged dims through the rule table; no size is compared with another.
  //  1. A value carries a *latent* layout from the tag onwards: how it would lie if it were cut.
  //  2. Values that depend on trained ones count as cut wherever they can be, others as whole: a call takes, of the
  //     factors that its cut operands offer, the one for which the fewest bytes move.
  //  3. Attention with cut keys is computed on its heads; so is a product whose operands offer two different factors
  //     (scores = q k^T: positions of q, positions of k), with all that lies between it and the next such product.
  static CutCandidates Find(const Graph& graph, const RuleTable& rules, const CandidateOptions& options);

  const CutCandidate* Of(const Node& node) const;  // null: an input, a tuple's element, or no row
  // The layout of a value if its producer is cut: a call itself, or the tuple that the value is an element of.
  // Replicated for inputs, for sums over the cut factor (once reduced), and where nothing can be cut.
  Layout WhenCut(const Node& value) const;

  const Status& status() const { return status_; }  // Calls that cannot be mapped or repaired, each listed.

 private:
  friend class CandidateSearch;
  std::map<const Node*, CutCandidate> candidates_;  // Looked up only.
  Status status_;
};

}  // namespace autosp
