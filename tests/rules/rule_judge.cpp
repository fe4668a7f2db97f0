#include "rule_judge.h"

#include <autosp/ir/parser.h>
#include <autosp/ir/printer.h>
#include <autosp/pass/pass_manager.h>

#include <autosp_pipeline.h>

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <optional>

namespace autosp::rules {
namespace {

constexpr const char* kPasses =
    "insert-explicit-reshards,reshard-to-collectives,convert-global-to-local,eliminate-dead-nodes";
// Rounding, amplified by samples of large values (softmax of scores near 600); a wrong claim is off by about 1.
constexpr double kTolerance = 1e-10;
constexpr double kLowTolerance = 2e-5;  // Of ops that know no f64.

std::string FirstLine(const std::string& text) { return text.substr(0, text.find('\n')); }

class CaseJudge {
 public:
  CaseJudge(const Sample& sample, const RuleTable& rules, const std::vector<int>& ranks)
      : sample_(sample), rules_(rules), ranks_(ranks) {}

  Judgement Run(bool find_missed) {
    Expected<Graph> parsed = Parse(sample_.text, "sample");
    if (!parsed.ok()) return Failure(parsed.status().ToString());
    whole_ = std::move(*parsed);
    op_ = whole_.Find("op");
    if (op_ == nullptr) return Failure("the sample has no %op");
    const OpRule* rule = rules_.Find(op_->op);
    if (rule == nullptr) return Failure(op_->op + " has no rule");
    Expected<FactorMapping> mapping = MapFactors(*op_, *rule);
    if (!mapping.ok()) return Failure(mapping.status().ToString());
    mapping_ = std::move(*mapping);
    judgement_.random = mapping_.random;
    judgement_.conflicting = !mapping_.size_conflicts.empty();
    CountPlacements();
    if (judgement_.random) return judgement_;
    RunWhole();
    if (!judgement_.error.empty()) {
      // An operator that is registered in Python only cannot be run here; that is fine if nothing is claimed about it.
      if (ClaimsNothing()) judgement_.error.clear();
      return judgement_;
    }
    for (const int ranks : ranks_) JudgeClaims(ranks);
    // Attention kernels read out of bounds when keys and values differ in length; what they need whole is repaired.
    if (find_missed && !is_constant_ && mapping_.repair_to < 0) FindMissed();
    return judgement_;
  }

 private:
  Judgement Failure(std::string text) {
    judgement_.error = std::move(text);
    return judgement_;
  }

  void CountPlacements() {
    for (const OperandFactors& operand : mapping_.operands) {
      for (std::size_t dim = 0; dim < operand.dims.size(); ++dim) {
        if (operand.value->type.shape[dim].constant().value_or(2) < 2) continue;
        ++judgement_.placements;
        if (operand.read && IsWhole(operand.dims[dim])) ++judgement_.whole_placements;
      }
    }
  }

  bool ClaimsNothing() const {
    return std::all_of(mapping_.factors.begin(), mapping_.factors.end(),
                       [](const Factor& factor) { return factor.kind == FactorKind::kWhole; }) &&
           std::all_of(mapping_.operands.begin(), mapping_.operands.end(),
                       [](const OperandFactors& operand) { return operand.read; });
  }

  bool IsWhole(const std::vector<int>& factors) const {
    return std::all_of(factors.begin(), factors.end(),
                       [&](int factor) { return mapping_.factors[factor].kind == FactorKind::kWhole; });
  }

  // The truth must run; whether it has a backward is seen here.
  void RunWhole() {
    const Expected<SpmdResult> result = SpmdInterpreter(whole_, 1, {.only_marked_leaves = true}).Run(sample_.inputs);
    if (!result.ok()) {
      judgement_.error = FirstLine(result.status().ToString());
      return;
    }
    is_constant_ = true;
    tolerance_ = kTolerance;
    for (const auto& [name, value] : sample_.inputs) {
      if (!value.isTensor()) continue;
      const at::ScalarType dtype = value.toTensor().scalar_type();
      if (at::isFloatingType(dtype) && dtype != at::kDouble) tolerance_ = kLowTolerance;
    }
    const std::vector<c10::IValue>& outputs = result->outputs.front();
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (!outputs[i].isTensor()) continue;
      const at::Tensor output = outputs[i].toTensor().detach();
      if (output.numel() > 1 && !output.eq(output.flatten()[0]).all().item<bool>()) is_constant_ = false;
      if (output.numel() == 1 && output.ne(0).item<bool>()) is_constant_ = false;
      if (!outputs[i].toTensor().requires_grad()) continue;
      const auto gradients = SpmdRankGradients(*result, static_cast<int>(i));
      if (!gradients.ok() || !AllFinite(gradients->front())) judgement_.gradients = false;
    }
  }

  // The padded tail repeats true elements: it is as finite as they are, and no more is promised.
  static bool AllFinite(const std::map<std::string, at::Tensor>& gradients) {
    return std::all_of(gradients.begin(), gradients.end(), [](const auto& entry) {
      const at::Tensor dense = entry.second.is_sparse() ? entry.second.to_dense() : entry.second;
      return dense.isfinite().all().template item<bool>();
    });
  }

  void JudgeClaims(int ranks) {
    for (std::size_t f = 0; f < mapping_.factors.size(); ++f) {
      const Factor& factor = mapping_.factors[f];
      const std::int64_t size = factor.size.constant().value_or(0);
      if (factor.kind == FactorKind::kWhole || size < 2) continue;
      const int index = static_cast<int>(f);
      JudgeCut({index, 1, size, 1}, ranks);
      // [b, s, v] flattened to [b*s, v]: s is an inner part of the loop, b an outer one.
      const std::int64_t part = SmallestDivisor(size);
      if (part == size) continue;
      JudgeCut({index, part, size / part, 1}, ranks);
      JudgeCut({index, 1, size / part, part}, ranks);
    }
    for (std::size_t i = 0; i < mapping_.operands.size(); ++i) {
      const OperandFactors& operand = mapping_.operands[i];
      if (operand.read) continue;
      for (std::size_t dim = 0; dim < operand.dims.size(); ++dim) JudgeUnread(i, static_cast<int>(dim), ranks);
    }
  }

  void JudgeCut(const FactorSharding& cut, int ranks) {
    const Strategy strategy = StrategyFor(mapping_, cut);
    const bool single = cut.length.constant().value_or(0) <= ranks;
    judgement_.claims.push_back({Describe(strategy), ranks, single, JudgeStrategy(strategy, ranks)});
  }

  void JudgeUnread(std::size_t operand, int dim, int ranks) {
    const Dim& size = mapping_.operands[operand].value->type.shape[dim];
    if (size.constant().value_or(0) < 2) return;
    Strategy strategy = StrategyFor(mapping_, std::nullopt);
    strategy.operands[operand] = Layout::Sharded(dim, size);
    const bool single = size.constant().value_or(0) <= ranks;
    judgement_.claims.push_back({Describe(strategy) + " not read", ranks, single, JudgeStrategy(strategy, ranks)});
  }

  static std::int64_t SmallestDivisor(std::int64_t size) {
    for (std::int64_t divisor = 2; divisor * divisor <= size; ++divisor) {
      if (size % divisor == 0) return divisor;
    }
    return size;
  }

  std::string Describe(const Strategy& strategy) const {
    std::string text;
    for (std::size_t i = 0; i < strategy.operands.size(); ++i) {
      if (!strategy.operands[i].is_sharded()) continue;
      text += (text.empty() ? "" : ", ") + mapping_.operands[i].value->name + " " + strategy.operands[i].ToString();
    }
    text += " ->";
    for (const Layout& layout : strategy.results) text += " " + layout.ToString();
    return text;
  }

  // The program with the op's operands laid out by copies of them, so that the passes see a layout conflict to repair
  // at each input: %self -> %self_cut = aten.clone(%self) -> %op.
  Graph Sharded(const Strategy& strategy, int ranks) const {
    Graph graph = whole_.Clone();
    graph.mesh() = {{"sp", ranks}};
    std::vector<Node*> nodes;
    for (const auto& node : graph.nodes()) nodes.push_back(node.get());
    for (Node* node : nodes) {
      SetResultLayouts(*node, std::vector<Layout>(ResultLayouts(*node).size(), Layout::Replicated()));
    }
    Node* op = graph.Find("op");
    const std::vector<Node**> slots = OperandSlots(*op);
    for (std::size_t i = 0; i < strategy.operands.size(); ++i) {
      if (!strategy.operands[i].is_sharded()) continue;
      Node*& slot = *slots[mapping_.operands[i].slot];
      Type type = slot->type;
      type.layout = strategy.operands[i];
      slot = graph.InsertBefore(op, slot->name + "_cut", "aten.clone", {slot}, type);
    }
    PutResults(*op, strategy, nodes);
    graph.set_form(Form::kSharded);
    return graph;
  }

  static void PutResults(Node& op, const Strategy& strategy, const std::vector<Node*>& nodes) {
    SetResultLayouts(op, strategy.results);
    for (Node* node : nodes) {
      if (!node->is_call("builtin.getitem")) continue;
      node->type.layout = op.type.elements[*node->args[1].get<std::int64_t>()].layout;
    }
  }

  Verdict JudgeStrategy(const Strategy& strategy, int ranks) {
    Graph graph = Sharded(strategy, ranks);
    const Status status = RunPasses(graph, kPasses, ranks);
    if (!status.ok()) return {Verdict::Kind::kFailed, FirstLine(status.ToString())};
    const Verdict verdict = Compare(graph, strategy, ranks);
    if (verdict.kind != Verdict::Kind::kEqual) return verdict;
    const Status verified = RunPasses(graph, "verify-partitioned", ranks);
    if (!verified.ok()) return {Verdict::Kind::kRefused, FirstLine(verified.ToString())};
    return verdict;
  }

  Status RunPasses(Graph& graph, const std::string& pipeline, int ranks) const {
    AUTOSP_ASSIGN_OR_RETURN(auto passes, MakePipeline(pipeline));
    PassContext context{.options = {}, .rules = &rules_, .remarks = {}};
    context.options.sequence_parallel_size = ranks;
    context.options.attention = "gather";  // Claims only: a repair is not one.
    context.options.outputs = "sharded";
    PassManager manager(std::move(passes), {});
    return manager.Run(graph, context);
  }

  Verdict Compare(const Graph& graph, const Strategy& strategy, int ranks) const {
    CompareOptions options;
    options.tolerance = tolerance_;
    options.gradients = judgement_.gradients;
    options.nan_equals_nan = true;
    options.spmd.only_marked_leaves = true;
    for (const Layout& layout : strategy.results) {
      options.output_layouts.push_back(layout.is_sharded() ? layout : Layout::Replicated());
    }
    const Expected<Comparison> comparison = CompareWithWhole(whole_, graph, ranks, sample_.inputs, options);
    if (!comparison.ok()) return {Verdict::Kind::kFailed, FirstLine(comparison.status().ToString())};
    if (!comparison->equal()) return {Verdict::Kind::kDifferent, comparison->ToString()};
    return {};
  }

  // What the rule says is needed whole, and would have done cut: the op is simply run on blocks.
  void FindMissed() {
    for (std::size_t i = 0; i < mapping_.operands.size(); ++i) {
      const OperandFactors& operand = mapping_.operands[i];
      for (std::size_t dim = 0; operand.read && dim < operand.dims.size(); ++dim) {
        if (!IsWhole(operand.dims[dim])) continue;
        const std::int64_t size = operand.value->type.shape[dim].constant().value_or(0);
        const std::int64_t ranks = SmallestDivisor(size);
        if (size < 2 || ranks > 7) continue;
        const std::string how = WhatWouldDo(i, static_cast<int>(dim), size, static_cast<int>(ranks));
        if (!how.empty()) judgement_.missed.push_back({operand.value->name, static_cast<int>(dim), how});
      }
    }
  }

  std::string WhatWouldDo(std::size_t operand, int dim, std::int64_t size, int ranks) {
    std::vector<std::vector<Layout>> tried;
    for (const char align : {'n', 'r', 'l'}) {
      Strategy strategy = AlignedCut(operand, dim, size, align);
      if (std::find(tried.begin(), tried.end(), strategy.operands) != tried.end()) continue;
      tried.push_back(strategy.operands);
      for (const auto& [how, results] : PossibleResults(size)) {
        strategy.results = results;
        Graph graph = Forced(strategy, ranks);
        if (!RunPasses(graph, "reshard-to-collectives,convert-global-to-local", ranks).ok()) continue;
        if (Compare(graph, strategy, ranks).kind == Verdict::Kind::kEqual) return how;
      }
    }
    return "";
  }

  // The operand cut on `dim`, and with it ('n') nothing, ('r') or ('l') the dims of the same size of other operands
  // that stand at the same place from the right or left.
  Strategy AlignedCut(std::size_t operand, int dim, std::int64_t size, char align) const {
    Strategy strategy = StrategyFor(mapping_, std::nullopt);
    const int rank = mapping_.operands[operand].value->type.rank();
    for (std::size_t i = 0; i < mapping_.operands.size(); ++i) {
      const Type& type = mapping_.operands[i].value->type;
      const int place = align == 'l' ? dim : type.rank() - (rank - dim);
      if (i != operand && (align == 'n' || place < 0 || place >= type.rank() || type.shape[place] != Dim(size)))
        continue;
      strategy.operands[i] = Layout::Sharded(i == operand ? dim : place, size);
    }
    return strategy;
  }

  // Every result cut on a dim of the size, every result a term of a sum, or every result whole.
  std::vector<std::pair<std::string, std::vector<Layout>>> PossibleResults(std::int64_t size) const {
    std::vector<std::pair<std::string, std::vector<Layout>>> possible;
    std::vector<const Type*> types;
    if (op_->type.is_tensor()) types.push_back(&op_->type);
    for (const Type& element : op_->type.elements) {
      if (element.is_tensor()) types.push_back(&element);
    }
    if (types.empty()) return possible;
    for (int dim = 0; dim < types[0]->rank(); ++dim) {
      std::vector<Layout> layouts;
      for (const Type* type : types) {
        if (dim < type->rank() && type->shape[dim] == Dim(size)) layouts.push_back(Layout::Sharded(dim, size));
      }
      if (layouts.size() == types.size()) possible.emplace_back("passes to dim " + std::to_string(dim), layouts);
    }
    possible.emplace_back("sum", std::vector<Layout>(types.size(), Layout::Partial(ReduceOp::kSum)));
    possible.emplace_back("not read", std::vector<Layout>(types.size(), Layout::Replicated()));
    return possible;
  }

  // The program with the moves written by hand, since the rule would gather.
  Graph Forced(const Strategy& strategy, int ranks) const {
    Graph graph = Sharded(strategy, ranks);
    for (Node** slot : OperandSlots(*graph.Find("op"))) {
      if ((*slot)->is_call("aten.clone")) (*slot)->op = "autosp.reshard";
    }
    for (Argument& argument : graph.output()->args) {
      Node* value = argument.node();
      if (value == nullptr || !value->type.layout.is_partial()) continue;
      Type type = value->type;
      type.layout = Layout::Replicated();
      argument = graph.InsertAfter(value, value->name + "_sum", "autosp.reshard", {value}, type);
    }
    graph.set_form(Form::kResharded);
    return graph;
  }

  const Sample& sample_;
  const RuleTable& rules_;
  const std::vector<int>& ranks_;
  Graph whole_;
  const Node* op_ = nullptr;
  FactorMapping mapping_;
  Judgement judgement_;
  double tolerance_ = kTolerance;
  bool is_constant_ = false;  // Results that are one number say nothing about what would do.
};

}  // namespace

Judgement Judge(const Sample& sample, const RuleTable& rules, const std::vector<int>& ranks, bool find_missed) {
  return CaseJudge(sample, rules, ranks).Run(find_missed);
}

}  // namespace autosp::rules
