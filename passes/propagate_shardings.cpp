#include "propagate_shardings.h"

#include <autosp/ir/printer.h>
#include <autosp/pass/byte_amount.h>
#include <autosp/pass/problem.h>
#include <autosp/sharding/sharding_cut.h>

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <set>

namespace autosp {
namespace {

using Layouts = std::vector<Layout>;

class Propagation {
 public:
  Propagation(Graph& graph, PassContext& context, double gather_limit)
      : graph_(graph),
        context_(context),
        gather_limit_(gather_limit),
        candidates_(
            CutCandidates::Find(graph, *context.rules, CandidateOptions{context.options.attention == "ulysses"})),
        cut_(ChooseCutCalls(graph, candidates_, context.options.outputs == "gathered")) {}

  Status Run() {
    status_ = candidates_.status();
    for (const auto& node : graph_.nodes()) {
      if (node->is_input()) {
        SetWhole(*node);
      } else if (node->is_call()) {
        VisitCall(*node);
      }
    }
    if (status_.ok()) CheckLoss();
    if (status_.ok()) ReportIfNothingIsCut();
    return status_;
  }

 private:
  void VisitCall(Node& node) {
    const CutCandidate* candidate = candidates_.Of(node);
    if (node.op == "builtin.getitem") {
      SetElement(node);
    } else if (candidate == nullptr || !candidate->has_rule) {
      VisitUnknown(node);
    } else {
      if (candidate->mapping.random) {
        Refuse(DiagnosticCode::kRandomOnSharded, node,
               fmt::format("{} draws random numbers, and {} ranks would not draw those of one process", node.op,
                           graph_.axis_size()));
      }
      Assign(node, *candidate);
    }
  }

  void SetElement(Node& node) {
    const bool cut = cut_.contains(ProducerOf(node).node);
    SetResultLayouts(node, Layouts(ResultLayouts(node).size(), cut ? candidates_.WhenCut(node) : Layout::Replicated()));
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

  void Assign(Node& node, const CutCandidate& candidate) {
    const bool cut = cut_.contains(&node);
    const Strategy strategy = cut ? candidate.strategy : StrategyFor(candidate.mapping, std::nullopt);
    SetResultLayouts(node, cut ? candidate.visible : strategy.results);
    ReportGathers(node, candidate.mapping, strategy);
    if (cut) {
      ReportCut(node, candidate);
    } else if (candidate.cut && candidate.trained) {
      Remark(node, fmt::format("computed whole on every rank, though it could be cut: {:.0f} bytes more per step, and "
                               "cutting it would send more",
                               WholePrice(graph_, node, candidate)));
    }
  }

  void ReportCut(const Node& node, const CutCandidate& candidate) {
    if (candidate.repaired) {
      const std::int64_t heads = candidate.mapping.query_heads;
      Remark(node, fmt::format("attention needs every key: computed on {} of {} query heads per rank (Ulysses), "
                               "exchanged to heads and back",
                               heads / graph_.axis_size(), heads));
    } else if (candidate.exchanged) {
      Remark(node, fmt::format("between products over positions that are cut on both sides: computed on 1 of {} parts "
                               "of a loop that both have (Ulysses)",
                               graph_.axis_size()));
    } else if (candidate.trained && ReadsNothingCut(candidate)) {
      Remark(node, fmt::format("cut over \"sp\"={} from here on: it depends on trained values and its {} is the tagged "
                               "sequence",
                               graph_.axis_size(), candidate.cut->length.ToString()));
    }
  }

  static bool ReadsNothingCut(const CutCandidate& candidate) {
    return std::none_of(candidate.mapping.operands.begin(), candidate.mapping.operands.end(),
                        [](const OperandFactors& operand) { return operand.value->type.layout.is_sharded(); });
  }

  void ReportGathers(Node& node, const FactorMapping& mapping, const Strategy& strategy) {
    for (std::size_t i = 0; i < strategy.operands.size(); ++i) {
      const Node& operand = *mapping.operands[i].value;
      if (!operand.type.layout.is_sharded() || !strategy.operands[i].is_replicated()) continue;
      const double bytes = ReshardBytes(graph_, operand.type, operand.type.layout, Layout::Replicated());
      const std::string text =
          fmt::format("{} needs the whole of {}: gathering it sends {:.3f} MiB per rank and forward pass", node.op,
                      Describe(operand), bytes / (1 << 20));
      if (bytes > gather_limit_) {
        Refuse(DiagnosticCode::kGatherRefused, node,
               fmt::format("{}, gather_limit is {}", text, context_.options.gather_limit),
               "raise gather_limit, or avoid mixing positions of the sequence");
      } else if (context_.options.on_gather == "error") {
        Refuse(DiagnosticCode::kGatherRefused, node, text);
      } else {
        Remark(node, text, context_.options.on_gather == "warn");
      }
    }
  }

  static void SetWhole(Node& node) {
    SetResultLayouts(node, Layouts(ResultLayouts(node).size(), Layout::Replicated()));
  }

  // Exact, but no more than what one process does: somebody who asked for a cut must hear of it.
  void ReportIfNothingIsCut() {
    const auto& nodes = graph_.nodes();
    const auto first = std::find_if(nodes.begin(), nodes.end(), [&](const auto& node) {
      const CutCandidate* candidate = candidates_.Of(*node);
      return candidate != nullptr && candidate->trained;
    });
    if (!cut_.empty() || first == nodes.end()) return;
    Remark(**first,
           fmt::format("nothing is cut over \"sp\"={}: every rank computes the whole sequence", graph_.axis_size()),
           true);
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
  const double gather_limit_;  // bytes
  const CutCandidates candidates_;
  const std::set<const Node*> cut_;  // Looked up only.
  Status status_;
};

// Bytes; without a limit infinitely many.
Expected<double> GatherLimit(const std::string& text) {
  if (text.empty()) return std::numeric_limits<double>::infinity();
  if (const std::optional<double> bytes = ParseBytes(text)) return *bytes;
  return MakeProblem(DiagnosticCode::kBadOption,
                     fmt::format("gather_limit is \"{}\", it must be bytes (\"512 MiB\")", text),
                     "write bytes as a whole number or with a unit");
}

class PropagateShardingsPass : public Pass {
 public:
  const char* name() const override { return "propagate-shardings"; }
  Form form_in() const override { return Form::kNormalized; }
  Form form_out() const override { return Form::kSharded; }
  const char* summary() const override { return "one layout per value, by rules, as late as possible"; }
  Expected<bool> Run(Graph& graph, PassContext& context) const override {
    AUTOSP_ASSIGN_OR_RETURN(const double gather_limit, GatherLimit(context.options.gather_limit));
    AUTOSP_RETURN_IF_ERROR(Propagation(graph, context, gather_limit).Run());
    graph.set_form(Form::kSharded);
    return true;
  }
};

}  // namespace

std::unique_ptr<Pass> MakePropagateShardingsPass() { return std::make_unique<PropagateShardingsPass>(); }

}  // namespace autosp
