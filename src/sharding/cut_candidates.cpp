#include <autosp/sharding/cut_candidates.h>

#include <autosp/ir/printer.h>
#include <autosp/sharding/op_rules.h>

#include <fmt/format.h>

#include <algorithm>

#include "exchange_regions.h"

namespace autosp {

using Layouts = std::vector<Layout>;

class CandidateSearch {
 public:
  CandidateSearch(const Graph& graph, const RuleTable& rules, const CandidateOptions& options)
      : graph_(graph), rules_(rules), options_(options) {}

  CutCandidates Run() {
    for (const auto& node : graph_.nodes()) {
      if (node->is_input()) {
        VisitInput(*node);
      } else if (node->is_call()) {
        VisitCall(*node);
      }
    }
    if (options_.exchange_to_heads) MoveRegionsToHeads(graph_, found_.candidates_);
    return std::move(found_);
  }

 private:
  void VisitInput(const Node& node) {
    assumed_[&node] = Layouts(1, Layout::Replicated());
    if (node.seq_dim >= 0 && node.type.is_tensor()) {
      latent_[&node] = {Layout::Sharded(static_cast<int>(node.seq_dim), node.type.shape[node.seq_dim])};
    }
  }

  void VisitCall(const Node& node) {
    if (ProducerOf(node).node != &node) {
      VisitGetItem(node);
      return;
    }
    const OpRule* rule = rules_.Find(node.op);
    if (rule == nullptr) {
      VisitUnknown(node);
      return;
    }
    Expected<FactorMapping> mapping = MapFactors(node, *rule);
    if (!mapping.ok()) {
      found_.status_.Append(mapping.status());
      return;
    }
    CutCandidate& candidate = found_.candidates_[&node];
    candidate.has_rule = true;
    candidate.mapping = std::move(*mapping);
    candidate.trained = RequiresGrad(node.type);
    Decide(node, candidate);
  }

  // An element of a tuple lies as the tuple's producer left it.
  void VisitGetItem(const Node& node) {
    const Producer producer = ProducerOf(node);
    for (auto* layouts : {&latent_, &assumed_}) {
      const auto found = layouts->find(producer.node);
      if (found != layouts->end() && producer.tensor < found->second.size()) {
        (*layouts)[&node] = {found->second[producer.tensor]};
      }
    }
  }

  // The pass that asks fails if such an operand is really cut; guessing that the result lies like the operand lets it
  // find the next op without a rule.
  void VisitUnknown(const Node& node) {
    for (const Node* operand : node.operands()) {
      const Layout& layout = Assumed(*operand);
      if (!layout.is_sharded() || !node.type.is_tensor() || node.type.shape != operand->type.shape) continue;
      assumed_[&node] = latent_[&node] = {layout};
      CutCandidate& candidate = found_.candidates_[&node];
      candidate.visible = {layout};
      candidate.trained = candidate.counts_as_cut = true;
      return;
    }
  }

  void Decide(const Node& node, CutCandidate& candidate) {
    const FactorMapping& mapping = candidate.mapping;
    Layouts assumed, latents;
    for (const OperandFactors& operand : mapping.operands) {
      assumed.push_back(operand.read ? Assumed(*operand.value) : Layout());
      const auto latent = latent_.find(operand.value);
      latents.push_back(latent != latent_.end() && operand.read ? latent->second.at(0) : Layout());
    }
    const bool any_cut = std::any_of(assumed.begin(), assumed.end(), [](const Layout& l) { return l.is_sharded(); });
    // Cutting whole operands costs nothing; which one offers the factor first decides.
    const Layouts& offers = any_cut ? assumed : latents;
    candidate.counts_as_cut = any_cut || candidate.trained;
    if (options_.exchange_to_heads && NeedsRepair(mapping, offers)) {
      Repair(node, candidate, offers);
    } else {
      Choose(node, candidate, offers, !any_cut);
    }
    const Layouts& results = candidate.visible;
    assumed_[&node] = candidate.counts_as_cut ? Seen(results) : Layouts(results.size(), Layout::Replicated());
    SetLatent(node, candidate, offers);
  }

  // A partial sum is reduced before anybody reads it.
  static Layouts Seen(Layouts layouts) {
    for (Layout& layout : layouts) {
      if (layout.is_partial()) layout = Layout::Replicated();
    }
    return layouts;
  }

  void Choose(const Node& node, CutCandidate& candidate, const Layouts& offers, bool start) {
    const FactorMapping& mapping = candidate.mapping;
    double least = 0;
    for (std::size_t i = 0; i < offers.size(); ++i) {
      if (!mapping.operands[i].read) continue;
      const std::optional<FactorSharding> cut = ProjectLayout(offers[i], mapping.operands[i].dims, mapping.factors);
      if (!cut || mapping.factors[cut->factor].kind == FactorKind::kWhole) continue;
      // Whole operands are summed whole: starting a cut in order to reduce over it would only add a collective.
      if (start && mapping.factors[cut->factor].kind == FactorKind::kReduction) continue;
      const double bytes = MovedBytes(node, mapping, *cut);
      if (candidate.cut && bytes >= least) continue;
      candidate.cut = cut;
      candidate.primary = static_cast<int>(i);
      least = bytes;
    }
    candidate.strategy = StrategyFor(mapping, candidate.cut);
    candidate.visible = candidate.strategy.results;
  }

  void Repair(const Node& node, CutCandidate& candidate, const Layouts& offers) {
    const FactorMapping& mapping = candidate.mapping;
    const Dim& heads = mapping.factors[mapping.repair_to].size;
    const bool cut_allowed = mapping.factors[mapping.repair_to].kind == FactorKind::kPassThrough;
    const bool divisible = heads.constant() && *heads.constant() % graph_.axis_size() == 0;
    // Frozen attention may stay whole; what must be cut was given heads that the ranks divide (pad_attention_heads).
    if ((!cut_allowed || !divisible) && !candidate.counts_as_cut) {
      Choose(node, candidate, Layouts(offers.size()), true);
      return;
    }
    if (!cut_allowed || !divisible) {
      std::string text =
          fmt::format("cannot move axis \"sp\"={} from the sequence to the heads: ", graph_.axis_size()) +
          (heads.constant() ? fmt::format("{} query heads and {} kv heads", mapping.query_heads, heads.ToString())
                            : fmt::format("their number is {}, a symbol", heads.ToString()));
      found_.status_.Add(Diagnostic{
          DiagnosticCode::kHeadsNotDivisible, std::move(text), node.provenance.location, Describe(node), {}, ""});
      Choose(node, candidate, Layouts(offers.size()), true);
      return;
    }
    candidate.cut = FactorSharding{mapping.repair_to, 1, heads, 1};
    candidate.strategy = StrategyFor(mapping, candidate.cut);
    candidate.repaired = true;
    // Readers see the result cut where the query was; a query that arrives whole leaves the result whole.
    Layout visible = Layout::Replicated();
    for (std::size_t i = 0; i < offers.size() && !visible.is_sharded(); ++i) {
      const std::optional<FactorSharding> cut = ProjectLayout(offers[i], mapping.operands[i].dims, mapping.factors);
      if (!cut || cut->factor != mapping.repair_from) continue;
      visible = LayoutUnder(*cut, mapping.results[0], mapping.factors);
      candidate.primary = static_cast<int>(i);
    }
    candidate.visible = {visible};
  }

  // For the operands and the result when `cut` is chosen.
  double MovedBytes(const Node& node, const FactorMapping& mapping, const FactorSharding& cut) const {
    const Strategy strategy = StrategyFor(mapping, cut);
    double bytes = 0;
    for (std::size_t i = 0; i < strategy.operands.size(); ++i) {
      const Node& value = *mapping.operands[i].value;
      bytes += ReshardBytes(graph_, value.type, Assumed(value), strategy.operands[i]);
    }
    if (node.type.is_tensor() && strategy.results[0].is_partial()) {
      bytes += ReshardBytes(graph_, node.type, strategy.results[0], Layout::Replicated());
    }
    return bytes;
  }

  // A result remembers where the sequence is even while it is whole; the first operand that knows decides.
  void SetLatent(const Node& node, const CutCandidate& candidate, const Layouts& offers) {
    const Layouts seen = Seen(candidate.visible);
    if (std::any_of(seen.begin(), seen.end(), [](const Layout& layout) { return layout.is_sharded(); })) {
      latent_[&node] = seen;
      return;
    }
    const FactorMapping& mapping = candidate.mapping;
    for (std::size_t i = 0; i < offers.size(); ++i) {
      const std::optional<FactorSharding> cut = ProjectLayout(offers[i], mapping.operands[i].dims, mapping.factors);
      if (!cut || mapping.factors[cut->factor].kind == FactorKind::kReduction) continue;
      const Layouts results = StrategyFor(mapping, cut).results;
      if (std::none_of(results.begin(), results.end(), [](const Layout& l) { return l.is_sharded(); })) continue;
      latent_[&node] = results;
      return;
    }
  }

  const Layout& Assumed(const Node& node) const {
    static const Layout kWhole = Layout::Replicated();
    const auto found = assumed_.find(&node);
    return found == assumed_.end() || found->second.empty() ? kWhole : found->second.front();
  }

  const Graph& graph_;
  const RuleTable& rules_;
  const CandidateOptions options_;
  CutCandidates found_;
  std::map<const Node*, Layouts> latent_;   // Looked up only.
  std::map<const Node*, Layouts> assumed_;  // Looked up only.
};

CutCandidates CutCandidates::Find(const Graph& graph, const RuleTable& rules, const CandidateOptions& options) {
  return CandidateSearch(graph, rules, options).Run();
}

const CutCandidate* CutCandidates::Of(const Node& node) const {
  const auto found = candidates_.find(&node);
  return found == candidates_.end() ? nullptr : &found->second;
}

Layout CutCandidates::WhenCut(const Node& value) const {
  const Producer producer = ProducerOf(value);
  const CutCandidate* candidate = Of(*producer.node);
  if (candidate == nullptr || producer.tensor >= candidate->visible.size()) return Layout::Replicated();
  const Layout& layout = candidate->visible[producer.tensor];
  return layout.is_sharded() ? layout : Layout::Replicated();
}

}  // namespace autosp
