#include "hoist_slices.h"

#include <autosp/sharding/strategy.h>

#include <fmt/format.h>

#include <algorithm>

namespace autosp {
namespace {

// What the readers of a value do.
struct Demand {
  Layout layout;                                    // The one they all need of it; unset when there is none.
  std::vector<std::optional<FactorSharding>> cuts;  // What each of them is cut on.
  bool operator==(const Demand&) const = default;
};

class SliceHoisting {
 public:
  SliceHoisting(Graph& graph, PassContext& context)
      : graph_(graph), context_(context), users_(graph.Users()), repair_(context.options.attention == "ulysses") {}

  bool Run() {
    bool changed = false;
    const auto& nodes = graph_.nodes();
    for (auto node = nodes.rbegin(); node != nodes.rend(); ++node) changed = Visit(**node) || changed;
    return changed;
  }

 private:
  bool Visit(Node& node) {
    if (!node.is_call() || !node.type.is_tensor() || !node.type.layout.is_replicated()) return false;
    const Demand demand = DemandOn(node);
    const Layout& wanted = demand.layout;
    if (!wanted.is_sharded()) return false;
    const OpRule* rule = context_.rules->Find(node.op);
    if (rule == nullptr) return false;
    const Expected<FactorMapping> mapping = MapFactors(node, *rule);
    if (!mapping.ok() || mapping->random || mapping->repair_to >= 0 || mapping->results.size() != 1) return false;
    const std::optional<FactorSharding> cut = ProjectLayout(wanted, mapping->results[0], mapping->factors);
    if (!cut || mapping->factors[cut->factor].kind != FactorKind::kPassThrough) return false;
    const Strategy strategy = StrategyFor(*mapping, cut);
    const bool from_operand = std::any_of(strategy.operands.begin(), strategy.operands.end(),
                                          [](const Layout& layout) { return layout.is_sharded(); });
    if (!from_operand || !(strategy.results[0] == wanted)) return false;
    node.type.layout = wanted;
    // What the readers do must not follow from how this operand lies: they were decided with it whole.
    if (!(DemandOn(node) == demand)) {
      node.type.layout = Layout::Replicated();
      return false;
    }
    context_.remarks.push_back({"hoist-slices", "%" + node.name,
                                fmt::format("every reader takes {}: computed in slices", wanted.ToString()),
                                node.provenance.location});
    return true;
  }

  Demand DemandOn(const Node& node) const {
    Demand demand;
    for (const Node* user : users_.at(&node)) {
      const OpRule* rule = user->is_call() ? context_.rules->Find(user->op) : nullptr;
      if (rule == nullptr) return {};
      const Expected<FactorMapping> mapping = MapFactors(*user, *rule);
      if (!mapping.ok()) return {};
      const Strategy strategy = StrategyOf(*user, *mapping, repair_);
      demand.cuts.push_back(strategy.cut);
      for (std::size_t i = 0; i < mapping->operands.size(); ++i) {
        const Layout& needed = strategy.operands[i];
        if (mapping->operands[i].value != &node || needed.is_unset()) continue;
        if (!demand.layout.is_unset() && !(demand.layout == needed)) return {};
        demand.layout = needed;
      }
    }
    return demand;
  }

  Graph& graph_;
  PassContext& context_;
  const std::map<const Node*, std::vector<Node*>> users_;  // Looked up only.
  const bool repair_;
};

class HoistSlicesPass : public Pass {
 public:
  const char* name() const override { return "hoist-slices"; }
  Form form_in() const override { return Form::kSharded; }
  Form form_out() const override { return Form::kSharded; }
  const char* summary() const override { return "whole values that are only read in slices are computed in slices"; }
  Expected<bool> Run(Graph& graph, PassContext& context) const override { return SliceHoisting(graph, context).Run(); }
};

}  // namespace

std::unique_ptr<Pass> MakeHoistSlicesPass() { return std::make_unique<HoistSlicesPass>(); }

}  // namespace autosp
