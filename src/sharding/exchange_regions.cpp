#include "exchange_regions.h"

#include <autosp/sharding/sharding_cut.h>

#include <algorithm>
#include <set>

namespace autosp {
namespace {

class RegionFinder {
 public:
  RegionFinder(const Graph& graph, std::map<const Node*, CutCandidate>& candidates)
      : graph_(graph), candidates_(candidates), users_(graph.Users()) {}

  void Run() {
    for (const auto& node : graph_.nodes()) Visit(*node);
    for (auto node = graph_.nodes().rbegin(); node != graph_.nodes().rend(); ++node) Prune(**node);
    std::map<int, std::vector<const Node*>> regions;
    for (const auto& node : graph_.nodes()) {
      const auto found = on_heads_.find(node.get());
      if (found != on_heads_.end()) regions[found->second.region].push_back(node.get());
    }
    for (const auto& [number, members] : regions) {
      if (IsWorthIt(members)) Move(members);
    }
    for (const auto& node : graph_.nodes()) FollowOperand(*node);
  }

 private:
  struct OnHeads {
    FactorSharding cut;
    int region = -1;
    int primary = -1;  // The operand that brings the layout; -1 at a conflict that starts a region.
    bool conflict = false;
    std::vector<Layout> results;
  };

  void Visit(const Node& node) {
    const auto found = candidates_.find(&node);
    if (found == candidates_.end() || !found->second.has_rule || !found->second.cut || found->second.repaired) return;
    const CutCandidate& candidate = found->second;
    OnHeads made;
    for (std::size_t i = 0; i < candidate.mapping.operands.size() && made.primary < 0; ++i) {
      const OperandFactors& operand = candidate.mapping.operands[i];
      if (!operand.read) continue;
      const std::optional<FactorSharding> cut =
          ProjectLayout(LayoutOnHeads(*operand.value), operand.dims, candidate.mapping.factors);
      if (!cut || candidate.mapping.factors[cut->factor].kind != FactorKind::kPassThrough) continue;
      made.cut = *cut;
      made.primary = static_cast<int>(i);
      made.region = on_heads_.at(ProducerOf(*operand.value).node).region;
    }
    const std::set<int> conflict = ConflictingFactors(candidate);
    if (conflict.size() > 1) {
      made.conflict = true;
      if (made.primary < 0) {
        const std::optional<FactorSharding> shared = SharedLoop(candidate, conflict);
        if (!shared) return;
        made.cut = *shared;
        made.region = next_region_++;
      }
    } else if (made.primary < 0) {
      return;
    }
    made.results = StrategyFor(candidate.mapping, made.cut).results;
    on_heads_[&node] = std::move(made);
  }

  // The loops on which operands that count as cut are cut.
  std::set<int> ConflictingFactors(const CutCandidate& candidate) const {
    std::set<int> factors;
    for (const OperandFactors& operand : candidate.mapping.operands) {
      const auto producer = candidates_.find(ProducerOf(*operand.value).node);
      if (!operand.read || producer == candidates_.end() || !producer->second.counts_as_cut) continue;
      const std::optional<FactorSharding> cut =
          ProjectLayout(HomeLayout(*operand.value), operand.dims, candidate.mapping.factors);
      if (cut && candidate.mapping.factors[cut->factor].kind != FactorKind::kWhole) factors.insert(cut->factor);
    }
    return factors;
  }

  std::optional<FactorSharding> SharedLoop(const CutCandidate& candidate, const std::set<int>& conflict) const {
    const FactorMapping& mapping = candidate.mapping;
    if (mapping.results.size() != 1) return std::nullopt;
    const auto has = [](const DimFactors& dims, int factor) {
      return std::any_of(dims.begin(), dims.end(), [&](const std::vector<int>& list) {
        return std::find(list.begin(), list.end(), factor) != list.end();
      });
    };
    std::optional<FactorSharding> last;
    for (const std::vector<int>& list : mapping.results[0]) {
      for (const int factor : list) {
        const std::optional<std::int64_t> size = mapping.factors[factor].size.constant();
        const bool everywhere =
            std::all_of(mapping.operands.begin(), mapping.operands.end(),
                        [&](const OperandFactors& operand) { return !operand.read || has(operand.dims, factor); });
        if (!everywhere || conflict.contains(factor) || !size || *size < graph_.axis_size()) continue;
        if (*size % graph_.axis_size() != 0) continue;
        if (mapping.factors[factor].kind == FactorKind::kPassThrough) last = FactorSharding{factor, 1, *size, 1};
      }
    }
    return last;
  }

  // Keeps what leads from one conflict to another.
  void Prune(const Node& node) {
    const auto found = on_heads_.find(&node);
    if (found == on_heads_.end()) return;
    for (const Node* user : Readers(node)) {
      const auto reader = on_heads_.find(user);
      if (reader == on_heads_.end() || reader->second.region != found->second.region) continue;
      return;  // A reader that was kept.
    }
    if (!found->second.conflict) on_heads_.erase(found);
  }

  // Who reads a value or an element of it.
  std::vector<const Node*> Readers(const Node& node) const {
    std::vector<const Node*> readers;
    for (const Node* user : users_.at(&node)) {
      if (user->is_call("builtin.getitem")) {
        const std::vector<const Node*> more = Readers(*user);
        readers.insert(readers.end(), more.begin(), more.end());
      } else {
        readers.push_back(user);
      }
    }
    return readers;
  }

  bool IsWorthIt(const std::vector<const Node*>& members) const {
    const auto conflicts =
        std::count_if(members.begin(), members.end(), [&](const Node* node) { return on_heads_.at(node).conflict; });
    return conflicts > 1 || PriceOf(members, true) < PriceOf(members, false);
  }

  // What the members' operands and results cost, on the shared loop or as they are.
  double PriceOf(const std::vector<const Node*>& members, bool on_heads) const {
    double price = 0;
    for (const Node* node : members) {
      const CutCandidate& candidate = candidates_.at(node);
      const Strategy strategy = StrategyFor(candidate.mapping, on_heads ? on_heads_.at(node).cut : candidate.cut);
      for (std::size_t i = 0; i < candidate.mapping.operands.size(); ++i) {
        const Node& value = *candidate.mapping.operands[i].value;
        const Layout inside = on_heads ? LayoutOnHeads(value) : Layout();
        const Layout from = inside.is_sharded() ? inside : HomeLayout(value);
        price += ReshardPrice(graph_, value.type, from, strategy.operands[i]);
      }
      for (std::size_t r = 0; on_heads && r < strategy.results.size(); ++r) {
        const std::vector<const Node*> readers = Readers(*node);
        const bool leaves = std::any_of(readers.begin(), readers.end(),
                                        [&](const Node* reader) { return !on_heads_.contains(reader); });
        if (leaves) price += ReshardPrice(graph_, node->type, strategy.results[r], candidate.visible[r]);
      }
    }
    return price;
  }

  void Move(const std::vector<const Node*>& members) {
    for (const Node* node : members) {
      CutCandidate& candidate = candidates_.at(node);
      const OnHeads& moved = on_heads_.at(node);
      candidate.cut = moved.cut;
      candidate.strategy = StrategyFor(candidate.mapping, candidate.cut);
      candidate.visible = candidate.strategy.results;
      candidate.primary = moved.primary;
      candidate.exchanged = true;
    }
  }

  // A sum over positions whose operand is on heads now: the sum is that of a rank's heads.
  void FollowOperand(const Node& node) {
    const auto found = candidates_.find(&node);
    if (found == candidates_.end() || !found->second.cut || found->second.exchanged) return;
    CutCandidate& candidate = found->second;
    const std::vector<Factor>& factors = candidate.mapping.factors;
    if (factors[candidate.cut->factor].kind != FactorKind::kReduction) return;
    const OperandFactors& operand = candidate.mapping.operands[candidate.primary];
    const std::optional<FactorSharding> cut = ProjectLayout(HomeLayout(*operand.value), operand.dims, factors);
    if (cut && *cut == *candidate.cut) return;
    const bool allowed = cut && factors[cut->factor].kind != FactorKind::kWhole;
    candidate.cut = allowed ? cut : std::nullopt;
    candidate.strategy = StrategyFor(candidate.mapping, candidate.cut);
    candidate.visible = candidate.strategy.results;
  }

  static Layout LayoutOf(const Producer& producer, const std::vector<Layout>& results) {
    return producer.tensor < results.size() ? results[producer.tensor] : Layout();
  }

  // Where a value lies as its candidate has it.
  Layout HomeLayout(const Node& value) const {
    const Producer producer = ProducerOf(value);
    const auto found = candidates_.find(producer.node);
    const Layout layout = found == candidates_.end() ? Layout() : LayoutOf(producer, found->second.visible);
    return layout.is_sharded() ? layout : Layout::Replicated();
  }

  // Unset outside of regions.
  Layout LayoutOnHeads(const Node& value) const {
    const Producer producer = ProducerOf(value);
    const auto found = on_heads_.find(producer.node);
    return found == on_heads_.end() ? Layout() : LayoutOf(producer, found->second.results);
  }

  const Graph& graph_;
  std::map<const Node*, CutCandidate>& candidates_;        // Looked up only.
  const std::map<const Node*, std::vector<Node*>> users_;  // Looked up only.
  std::map<const Node*, OnHeads> on_heads_;                // Looked up only.
  int next_region_ = 0;
};

}  // namespace

void MoveRegionsToHeads(const Graph& graph, std::map<const Node*, CutCandidate>& candidates) {
  RegionFinder(graph, candidates).Run();
}

}  // namespace autosp
