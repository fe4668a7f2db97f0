#include "propagate_shardings.h"

#include <autosp/ir/printer.h>
#include <autosp/sharding/strategy.h>

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace autosp {
namespace {

class Propagation {
 public:
  Propagation(Graph& graph, PassContext& context) : graph_(graph), context_(context) {}

  Status Run() {
    for (const auto& node : graph_.nodes()) {
      if (node->is_input()) {
        VisitInput(*node);
      } else if (node->is_call()) {
        VisitCall(*node);
      }
    }
    if (status_.ok()) CheckLoss();
    return status_;
  }

 private:
  using Layouts = std::vector<Layout>;

  void VisitInput(Node& node) {
    SetResultLayouts(node, Layouts(ResultLayouts(node).size(), Layout::Replicated()));
    if (node.seq_dim >= 0) {
      latent_[&node] = {Layout::Sharded(static_cast<int>(node.seq_dim), node.type.shape[node.seq_dim])};
    }
  }

  void VisitCall(Node& node) {
    if (node.op == "builtin.getitem" && node.args.size() == 2 && node.args[0].node() != nullptr) {
      VisitGetItem(node, *node.args[0].node());
      return;
    }
    const OpRule* rule = context_.rules->Find(node.op);
    if (rule == nullptr) {
      VisitUnknown(node);
      return;
    }
    Expected<FactorMapping> mapping = MapFactors(node, *rule);
    if (!mapping.ok()) {
      status_.Append(mapping.status());
      SetWhole(node);
      return;
    }
    if (mapping->random) {
      Refuse(DiagnosticCode::kRandomOnSharded, node,
             fmt::format("{} draws random numbers, and {} ranks would not draw those of one process", node.op,
                         graph_.axis_size()));
    }
    Decide(node, *mapping);
  }

  // An element of a tuple lies as the tuple's producer left it.
  void VisitGetItem(Node& node, const Node& tuple) {
    const auto* index = node.args[1].get<std::int64_t>();
    const std::size_t count = tuple.type.elements.size();
    if (index == nullptr || static_cast<std::size_t>(*index) >= count || !node.type.is_tensor()) {
      SetWhole(node);
      return;
    }
    node.type.layout = tuple.type.elements[*index].layout;
    const Layouts* latent = Latent(tuple);
    std::size_t tensor = 0;
    for (std::int64_t i = 0; i < *index; ++i) tensor += tuple.type.elements[i].is_tensor() ? 1 : 0;
    if (latent != nullptr && tensor < latent->size()) latent_[&node] = {(*latent)[tensor]};
  }

  void VisitUnknown(Node& node) {
    SetWhole(node);
    for (const Node* operand : node.operands()) {
      for (const Layout& layout : ResultLayouts(*operand)) {
        if (!layout.is_sharded()) continue;
        Refuse(
            DiagnosticCode::kNoRule, node,
            fmt::format("{} has no sharding rule, and its operand {} is cut over \"sp\"={}", node.op,
                        Describe(*operand), graph_.axis_size()),
            fmt::format("add a row: autosp.register_rule(\"{}\", \"(b, s, d) -> (b, s, d)\"), or a line of a --rules "
                        "file; see docs/sharding-rules.md",
                        node.op));
        // The pass fails; guessing that the result lies like the operand lets it find the next op without a rule.
        if (node.type.is_tensor() && node.type.shape == operand->type.shape) node.type.layout = layout;
        return;
      }
    }
  }

  void Decide(Node& node, const FactorMapping& mapping) {
    Layouts operands;
    for (const OperandFactors& operand : mapping.operands) operands.push_back(operand.value->type.layout);
    const bool any_cut = std::any_of(
        mapping.operands.begin(), mapping.operands.end(),
        [](const OperandFactors& operand) { return operand.read && operand.value->type.layout.is_sharded(); });
    const Layouts latents = LatentOperands(mapping);
    if (any_cut) {
      DecideCut(node, mapping, operands);
    } else if (IsTrained(node)) {
      // Cutting replicated operands costs nothing; which one offers the factor first decides.
      DecideCut(node, mapping, latents);
    } else {
      SetResultLayouts(node, StrategyFor(mapping, std::nullopt).results);
    }
    SetLatent(node, mapping, any_cut ? operands : latents);
  }

  // `offers`: layouts (real or latent) whose factors may be cut.
  void DecideCut(Node& node, const FactorMapping& mapping, const Layouts& offers) {
    if (context_.options.attention == "ulysses" && NeedsRepair(mapping, offers)) {
      Repair(node, mapping, offers);
      return;
    }
    std::optional<FactorSharding> best;
    double best_bytes = 0;
    for (std::size_t i = 0; i < offers.size(); ++i) {
      if (!mapping.operands[i].read) continue;
      const std::optional<FactorSharding> cut = ProjectLayout(offers[i], mapping.operands[i].dims, mapping.factors);
      if (!cut || mapping.factors[cut->factor].kind == FactorKind::kWhole) continue;
      // Whole operands are summed whole: starting a cut in order to reduce over it would only add a collective.
      if (IsStart(mapping) && mapping.factors[cut->factor].kind == FactorKind::kReduction) continue;
      const double bytes = Cost(node, mapping, *cut);
      if (!best || bytes < best_bytes) {
        best = cut;
        best_bytes = bytes;
      }
    }
    const Strategy strategy = StrategyFor(mapping, best);
    SetResultLayouts(node, strategy.results);
    if (best && IsStart(mapping)) {
      Remark(node, fmt::format("cut over \"sp\"={} from here on: it depends on trained values and its {} is the tagged "
                               "sequence",
                               graph_.axis_size(), best->length.ToString()));
    }
    ReportGathers(node, mapping, strategy);
  }

  void Repair(Node& node, const FactorMapping& mapping, const Layouts& offers) {
    const std::int64_t ranks = graph_.axis_size();
    const Dim& heads = mapping.factors[mapping.repair_to].size;
    const bool cut_allowed = mapping.factors[mapping.repair_to].kind == FactorKind::kPassThrough;
    const bool divisible = heads.constant() && *heads.constant() % ranks == 0;
    if (!cut_allowed || !divisible) {
      Refuse(DiagnosticCode::kHeadsNotDivisible, node,
             fmt::format("cannot move axis \"sp\"={} from the sequence to the heads: {} query heads and {} kv heads",
                         ranks, mapping.query_heads, heads.ToString()));
      SetWhole(node);
      return;
    }
    // Readers see the result cut where the query was; a query that arrives whole leaves the result whole.
    Layout visible = Layout::Replicated();
    for (std::size_t i = 0; i < offers.size() && !visible.is_sharded(); ++i) {
      const std::optional<FactorSharding> cut = ProjectLayout(offers[i], mapping.operands[i].dims, mapping.factors);
      if (cut && cut->factor == mapping.repair_from) visible = LayoutUnder(*cut, mapping.results[0], mapping.factors);
    }
    SetResultLayouts(node, {visible});
    Remark(node, fmt::format("attention needs every key: computed on {} of {} query heads per rank (Ulysses), "
                             "exchanged to heads and back",
                             mapping.query_heads / ranks, mapping.query_heads));
  }

  // Bytes moved for the operands and the result when `cut` is chosen.
  double Cost(const Node& node, const FactorMapping& mapping, const FactorSharding& cut) const {
    const Strategy strategy = StrategyFor(mapping, cut);
    double bytes = 0;
    for (std::size_t i = 0; i < strategy.operands.size(); ++i) {
      const Type& type = mapping.operands[i].value->type;
      bytes += ReshardBytes(graph_, type, type.layout, strategy.operands[i]);
    }
    if (node.type.is_tensor() && strategy.results[0].is_partial()) {
      bytes += ReshardBytes(graph_, node.type, strategy.results[0], Layout::Replicated());
    }
    return bytes;
  }

  void ReportGathers(Node& node, const FactorMapping& mapping, const Strategy& strategy) {
    for (std::size_t i = 0; i < strategy.operands.size(); ++i) {
      const Node& operand = *mapping.operands[i].value;
      if (!operand.type.layout.is_sharded() || !strategy.operands[i].is_replicated()) continue;
      const double mebibytes =
          ReshardBytes(graph_, operand.type, operand.type.layout, Layout::Replicated()) / (1 << 20);
      const std::string text =
          fmt::format("{} needs the whole of {}: gathering it sends {:.3f} MiB per rank and forward pass", node.op,
                      Describe(operand), mebibytes);
      if (context_.options.on_gather == "error") {
        Refuse(DiagnosticCode::kGatherRefused, node, text);
      } else {
        Remark(node, text, context_.options.on_gather == "warn");
      }
    }
  }

  static bool IsTrained(const Node& node) {
    return node.type.requires_grad || std::any_of(node.type.elements.begin(), node.type.elements.end(),
                                                  [](const Type& type) { return type.requires_grad; });
  }

  static bool IsStart(const FactorMapping& mapping) {
    return std::none_of(mapping.operands.begin(), mapping.operands.end(),
                        [](const OperandFactors& operand) { return operand.value->type.layout.is_sharded(); });
  }

  const Layouts* Latent(const Node& node) const {
    const auto found = latent_.find(&node);
    return found == latent_.end() ? nullptr : &found->second;
  }

  Layouts LatentOperands(const FactorMapping& mapping) const {
    Layouts layouts;
    for (const OperandFactors& operand : mapping.operands) {
      const Layouts* latent = Latent(*operand.value);
      layouts.push_back(latent != nullptr && operand.read ? latent->at(0) : Layout());
    }
    return layouts;
  }

  // A result remembers where the sequence is even while it is whole; the first operand that knows decides.
  void SetLatent(const Node& node, const FactorMapping& mapping, const Layouts& offers) {
    const Layouts real = ResultLayouts(node);
    if (std::any_of(real.begin(), real.end(), [](const Layout& layout) { return layout.is_sharded(); })) {
      latent_[&node] = real;
      return;
    }
    for (std::size_t i = 0; i < offers.size(); ++i) {
      const std::optional<FactorSharding> cut = ProjectLayout(offers[i], mapping.operands[i].dims, mapping.factors);
      if (!cut || mapping.factors[cut->factor].kind != FactorKind::kPassThrough) continue;
      latent_[&node] = StrategyFor(mapping, cut).results;
      return;
    }
  }

  static void SetWhole(Node& node) {
    SetResultLayouts(node, Layouts(ResultLayouts(node).size(), Layout::Replicated()));
  }

  // The sum over the ranks' losses is only right if the loss is in the graph: a whole scalar that depends on cut
  // values. Otherwise the user would compute it from parts of the sequence without knowing.
  void CheckLoss() {
    if (context_.options.outputs == "gathered" || graph_.output() == nullptr) return;
    const std::set<const Node*> cut = DependOnCut();
    const Node* returned_cut = nullptr;
    for (const Node* value : graph_.output()->operands()) {
      if (!value->type.is_tensor() || !value->type.requires_grad) continue;
      if (value->type.layout.is_sharded()) {
        if (returned_cut == nullptr) returned_cut = value;
      } else if (value->type.shape.empty() && cut.contains(value)) {
        return;
      }
    }
    if (returned_cut == nullptr) return;
    Refuse(DiagnosticCode::kNoLossOutput, *returned_cut,
           fmt::format(
               "the graph returns {} and no loss: a loss computed outside it would see 1 of {} parts of the sequence",
               Describe(*returned_cut), graph_.axis_size()));
  }

  std::set<const Node*> DependOnCut() const {
    std::set<const Node*> depend;  // Looked up only.
    for (const auto& node : graph_.nodes()) {
      const std::vector<Layout> layouts = ResultLayouts(*node);
      bool reached = std::any_of(layouts.begin(), layouts.end(), [](const Layout& l) { return l.is_sharded(); });
      for (const Node* operand : node->operands()) reached = reached || depend.contains(operand);
      if (reached) depend.insert(node.get());
    }
    return depend;
  }

  void Refuse(DiagnosticCode code, const Node& node, std::string message, std::string hint = "") {
    status_.Add(Diagnostic{code, std::move(message), node.provenance.location, Describe(node), {}, std::move(hint)});
  }

  void Remark(const Node& node, std::string text, bool warning = false) {
    context_.remarks.push_back(
        {"propagate-shardings", "%" + node.name, std::move(text), node.provenance.location, warning});
  }

  Graph& graph_;
  PassContext& context_;
  std::map<const Node*, Layouts> latent_;  // Looked up only.
  Status status_;
};

class PropagateShardingsPass : public Pass {
 public:
  const char* name() const override { return "propagate-shardings"; }
  Form form_in() const override { return Form::kNormalized; }
  Form form_out() const override { return Form::kSharded; }
  const char* summary() const override { return "one layout per value, by rules, as late as possible"; }
  Expected<bool> Run(Graph& graph, PassContext& context) const override {
    AUTOSP_RETURN_IF_ERROR(Propagation(graph, context).Run());
    graph.set_form(Form::kSharded);
    return true;
  }
};

}  // namespace

std::unique_ptr<Pass> MakePropagateShardingsPass() { return std::make_unique<PropagateShardingsPass>(); }

}  // namespace autosp
