#include "hoist_exchanges.h"

#include <autosp/analysis/op_cost.h>
#include <autosp/sharding/strategy.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace autosp {
namespace {

constexpr const char* kAttention = "aten.scaled_dot_product_attention";
constexpr std::array<std::string_view, 8> kRepeating = {"aten.clone",     "aten.contiguous",   "aten.expand",
                                                        "aten.reshape",   "aten._unsafe_view", "aten.slice.Tensor",
                                                        "aten.unsqueeze", "aten.view"};

// A value of the chain and how it lies once the chain is moved.
struct Link {
  Node* node;
  Layout layout;
};

class ExchangeHoisting {
 public:
  ExchangeHoisting(Graph& graph, PassContext& context) : graph_(graph), context_(context), users_(graph.Users()) {}

  bool Run() {
    bool changed = false;
    for (const auto& node : graph_.nodes()) {
      if (!node->is_call(kAttention) || node->args.size() < 3 || !RunsOnHeads(*node)) continue;
      for (const int argument : {1, 2}) {
        if (Node* value = node->args[argument].node()) changed = Move(*value, *node) || changed;
      }
    }
    return changed;
  }

 private:
  // Whether the sequence of this attention is exchanged for its heads.
  bool RunsOnHeads(const Node& node) const {
    const OpRule* rule = context_.rules->Find(node.op);
    if (rule == nullptr) return false;
    const Expected<FactorMapping> mapping = MapFactors(node, *rule);
    if (!mapping.ok()) return false;
    const Strategy strategy = StrategyOf(node, *mapping, true);
    return strategy.cut && strategy.cut->factor == mapping->repair_to;
  }

  bool Move(Node& value, Node& attention) {
    const std::vector<Link> chain = ChainTo(value);
    if (chain.empty()) return false;
    Node* first = chain.back().node->args[0].node();
    const std::int64_t before = HeadsOf(chain.back());
    for (const Link& link : chain) link.node->type.layout = link.layout;
    const double share = Bytes(first->type, graph_.hints()) / Bytes(value.type, graph_.hints());
    context_.remarks.push_back({"hoist-exchanges", "%" + value.name,
                                fmt::format("%{} is exchanged before its {} heads are repeated: {:.0f} % of the bytes",
                                            first->name, before, 100 * share),
                                attention.provenance.location});
    return true;
  }

  std::int64_t HeadsOf(const Link& link) const { return link.layout.length.constant().value_or(0); }

  // From `value` upwards, the calls to move; empty when there is nothing to gain. The chain ends where the fewest bytes
  // are, as far up as that holds.
  std::vector<Link> ChainTo(Node& value) const {
    std::vector<Link> chain;
    std::size_t best = 0;
    double least = Bytes(value.type, graph_.hints());
    std::optional<Layout> layout = Grouped(value);
    Node* node = &value;
    while (layout && IsRepeating(*node) && ReadOnce(*node) && node->type.layout.is_sharded()) {
      chain.push_back({node, *layout});
      layout = LayoutOfOperand(*node, *layout);
      if (!layout) break;
      node = node->args[0].node();
      const double bytes = Bytes(node->type, graph_.hints());
      if (bytes <= least) best = bytes < least || best > 0 ? chain.size() : best;
      least = std::min(least, bytes);
    }
    chain.resize(best);
    return chain;
  }

  bool IsRepeating(const Node& node) const {
    return std::find(kRepeating.begin(), kRepeating.end(), node.op) != kRepeating.end() && !node.args.empty() &&
           node.args[0].node() != nullptr && node.type.is_tensor();
  }

  // By one call, however often: an attention may read a value as key and as value.
  bool ReadOnce(const Node& node) const { return users_.at(&node).size() == 1; }

  // How the heads of `value` would lie, cut in the groups that were there before they were repeated: follows copies up
  // to the reshape that put g groups of r into one dim. Nothing when there is none, or P does not divide g.
  std::optional<Layout> Grouped(const Node& value) const {
    const Node* node = &value;
    const int heads = value.type.rank() - 3;
    while (IsRepeating(*node) && heads >= 0) {
      const std::optional<FactorMapping> mapping = MappingOf(*node);
      if (!mapping) return std::nullopt;
      const std::vector<int>& dim = mapping->results[0][heads];
      if (dim.size() == 2) {
        const Dim& groups = mapping->factors[dim[0]].size;
        const auto count = groups.constant();
        if (!count || *count % graph_.axis_size() != 0) return std::nullopt;
        return Layout::Sharded(heads, groups, 1, mapping->factors[dim[1]].size);
      }
      const Node* operand = node->args[0].node();
      if (operand->type.shape != node->type.shape) return std::nullopt;
      node = operand;
    }
    return std::nullopt;
  }

  // What the operand of a call must be cut on for its result to be cut so; nothing when it cannot.
  std::optional<Layout> LayoutOfOperand(const Node& node, const Layout& layout) const {
    const std::optional<FactorMapping> mapping = MappingOf(node);
    if (!mapping) return std::nullopt;
    const std::optional<FactorSharding> cut = ProjectLayout(layout, mapping->results[0], mapping->factors);
    if (!cut || mapping->factors[cut->factor].kind != FactorKind::kPassThrough) return std::nullopt;
    Layout operand = LayoutUnder(*cut, mapping->operands[0].dims, mapping->factors);
    if (!operand.is_sharded()) return std::nullopt;
    return operand;
  }

  std::optional<FactorMapping> MappingOf(const Node& node) const {
    const OpRule* rule = context_.rules->Find(node.op);
    if (rule == nullptr) return std::nullopt;
    Expected<FactorMapping> mapping = MapFactors(node, *rule);
    if (!mapping.ok() || mapping->operands.size() != 1 || mapping->results.size() != 1) return std::nullopt;
    return std::move(*mapping);
  }

  Graph& graph_;
  PassContext& context_;
  const std::map<const Node*, std::vector<Node*>> users_;  // Looked up only.
};

class HoistExchangesPass : public Pass {
 public:
  const char* name() const override { return "hoist-exchanges"; }
  Form form_in() const override { return Form::kSharded; }
  Form form_out() const override { return Form::kSharded; }
  const char* summary() const override { return "kv heads are exchanged before the program repeats them"; }
  Expected<bool> Run(Graph& graph, PassContext& context) const override {
    if (context.options.attention != "ulysses") return false;
    return ExchangeHoisting(graph, context).Run();
  }
};

}  // namespace

std::unique_ptr<Pass> MakeHoistExchangesPass() { return std::make_unique<HoistExchangesPass>(); }

}  // namespace autosp
