#include <autosp/interp/spmd_interpreter.h>

#include "collectives.h"
#include "execution_error.h"
#include "op_call.h"
#include "symbol_binding.h"

#include <autosp/ir/printer.h>

#include <ATen/core/grad_mode.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

namespace autosp {
namespace {

using interp::ExecutionError;

// In these forms the types of the nodes are those of the values that the ranks hold; in the forms between, shapes are
// still global while some values are sharded.
bool TypesAreLocal(Form form) { return form != Form::kSharded && form != Form::kResharded; }

at::Tensor MakeLeaf(const Node& input, const at::Tensor& whole, const SpmdOptions& options) {
  at::Tensor leaf = whole.detach().clone();
  const bool floating = leaf.is_floating_point() || leaf.is_complex();
  if (floating && (input.type.requires_grad || !options.only_marked_leaves)) leaf.set_requires_grad(true);
  return leaf;
}

// One run: the values of every node on every rank, filled in program order.
class Simulation {
 public:
  Simulation(const Graph& graph, int ranks, const SpmdOptions& options)
      : graph_(graph), ranks_(ranks), options_(options) {
    result_.ranks = ranks;
    result_.leaves.resize(static_cast<std::size_t>(ranks));
    result_.outputs.resize(static_cast<std::size_t>(ranks));
    for (int rank = 0; rank < ranks; ++rank) {
      scopes_.push_back(
          {[this, rank](const Node* node) -> const c10::IValue& { return ValueOf(node, rank); }, options.device});
    }
  }

  Expected<SpmdResult> Execute(SpmdInputs inputs) {
    AUTOSP_ASSIGN_OR_RETURN(result_.symbols, interp::BindSymbols(graph_, inputs));
    const at::AutoGradMode gradients(true);  // Restores the caller's mode, whatever the graph switches.
    for (const auto& node : graph_.nodes()) {
      rank_ = -1;
      try {
        Step(*node, inputs);
      } catch (...) {
        return Failure(*node, interp::CurrentExceptionText());
      }
    }
    return std::move(result_);
  }

 private:
  const c10::IValue& ValueOf(const Node* node, int rank) const {
    const auto found = result_.values.find(node->name);
    if (found == result_.values.end()) throw ExecutionError("%" + node->name + " is read before it is computed");
    return found->second[static_cast<std::size_t>(rank)];
  }

  void Step(const Node& node, const SpmdInputs& inputs) {
    if (node.is_output()) return StoreOutputs(node);
    std::vector<c10::IValue> values = node.is_input() ? Feed(node, inputs.at(node.name)) : Call(node);
    if (options_.check_types && node.is_call() && TypesAreLocal(graph_.form())) {
      for (rank_ = 0; rank_ < ranks_; ++rank_) {
        const auto text = interp::Mismatch(node.type, values[static_cast<std::size_t>(rank_)], result_.symbols);
        if (text) throw ExecutionError(*text);
      }
    }
    result_.values[node.name] = std::move(values);
  }

  std::vector<c10::IValue> Feed(const Node& input, const c10::IValue& whole) {
    std::vector<c10::IValue> values(static_cast<std::size_t>(ranks_), whole);
    if (!whole.isTensor()) return values;
    for (std::size_t rank = 0; rank < values.size(); ++rank) {
      const at::Tensor leaf = MakeLeaf(input, whole.toTensor(), options_);
      if (leaf.requires_grad()) result_.leaves[rank][input.name] = leaf;
      // The program works on a copy, so that an in-place operation on an input meets no leaf.
      values[rank] = leaf.requires_grad() ? leaf.clone() : leaf;
    }
    return values;
  }

  std::vector<c10::IValue> Call(const Node& node) {
    if (node.op == "builtin.set_grad_enabled") return SetGradEnabled(node);
    if (interp::IsCollective(node.op)) {
      return interp::RunCollective(node, ranks_, [this](const Argument& argument, int rank) {
        return interp::EvaluateArgument(argument, scopes_[static_cast<std::size_t>(rank)]);
      });
    }
    std::vector<c10::IValue> values;
    for (rank_ = 0; rank_ < ranks_; ++rank_) {
      values.push_back(CallLocal(node, scopes_[static_cast<std::size_t>(rank_)]));
    }
    rank_ = -1;
    return values;
  }

  static c10::IValue CallLocal(const Node& node, const interp::RankScope& scope) {
    const std::string_view op = node.op;
    if (op.starts_with("sym.")) return interp::EvaluateSymbolic(node, scope);
    if (op == "builtin.getitem") return interp::EvaluateGetItem(node, scope);
    if (op == "autosp.reshard") {
      throw ExecutionError("autosp.reshard names a wish, not an operation: run reshard-to-collectives first");
    }
    if (op == "autosp_fx.draw_seed") {  // aten.randint, under a name that tells passes what is done with it.
      Node draw = node;
      draw.op = "aten.randint";
      return interp::CallOperator(draw, scope);
    }
    for (const std::string_view prefix : {"builtin.", "autosp.", "autosp_fx.", "torch.higher_order."}) {
      if (op.starts_with(prefix)) throw ExecutionError("the simulator does not know the operation " + node.op);
    }
    return interp::CallOperator(node, scope);
  }

  std::vector<c10::IValue> SetGradEnabled(const Node& node) {
    const c10::IValue mode =
        node.args.size() == 1 ? interp::EvaluateArgument(node.args[0], scopes_.front()) : c10::IValue();
    if (!mode.isBool()) throw ExecutionError("builtin.set_grad_enabled wants true or false");
    c10::GradMode::set_enabled(mode.toBool());
    return std::vector<c10::IValue>(static_cast<std::size_t>(ranks_));
  }

  void StoreOutputs(const Node& node) {
    for (std::size_t rank = 0; rank < scopes_.size(); ++rank) {
      for (const Argument& argument : node.args) {
        result_.outputs[rank].push_back(interp::EvaluateArgument(argument, scopes_[rank]));
      }
    }
  }

  Diagnostic Failure(const Node& node, const std::string& text) const {
    const std::size_t line_end = std::min(text.find('\n'), text.size());
    const std::string what = node.is_call() ? node.op : node.is_input() ? "the input" : "the output";
    std::string where = ranks_ == 1 ? ""
                        : rank_ < 0 ? " on " + std::to_string(ranks_) + " ranks"
                                    : " on rank " + std::to_string(rank_) + " of " + std::to_string(ranks_);
    Diagnostic diagnostic{DiagnosticCode::kExecution,
                          what + " failed" + where + ": " + text.substr(0, line_end),
                          node.provenance.location,
                          {},
                          {},
                          {}};
    while (diagnostic.message.ends_with('.') || diagnostic.message.ends_with(' ')) diagnostic.message.pop_back();
    if (!node.is_output()) diagnostic.subject = Describe(node);
    AddOperands(node, diagnostic);
    if (line_end + 1 < text.size()) diagnostic.notes.push_back(text.substr(line_end + 1));
    return diagnostic;
  }

  void AddOperands(const Node& node, Diagnostic& diagnostic) const {
    std::vector<const Node*> seen;
    for (const Node* operand : node.operands()) {
      const auto found = result_.values.find(operand->name);
      if (found == result_.values.end() || std::find(seen.begin(), seen.end(), operand) != seen.end()) continue;
      seen.push_back(operand);
      const int rank = std::max(rank_, 0);
      diagnostic.notes.push_back("%" + operand->name + " is " +
                                 DescribeValue(found->second[static_cast<std::size_t>(rank)]) +
                                 (ranks_ == 1 ? "" : " on rank " + std::to_string(rank)));
    }
  }

  const Graph& graph_;
  const int ranks_;
  const SpmdOptions& options_;
  std::vector<interp::RankScope> scopes_;
  SpmdResult result_;
  int rank_ = -1;  // The rank at work, -1 when all are.
};

}  // namespace

Expected<SpmdResult> SpmdInterpreter::Run(const SpmdInputs& inputs) const {
  if (ranks_ < 1) {
    return Diagnostic{
        DiagnosticCode::kExecution, "a run wants at least 1 rank, not " + std::to_string(ranks_), {}, {}, {}, {}};
  }
  const std::int64_t planned = graph_.axis_size("sp");
  if ((graph_.form() == Form::kPartitioned || graph_.form() == Form::kLowered) && planned > 1 && planned != ranks_) {
    return Diagnostic{DiagnosticCode::kExecution,
                      "@" + graph_.name() + " is partitioned for \"sp\"=" + std::to_string(planned) + " but " +
                          std::to_string(ranks_) + " ranks are asked for",
                      {},
                      {},
                      {},
                      "run it on the number of ranks that its mesh names"};
  }
  return Simulation(graph_, ranks_, options_).Execute(inputs);
}

}  // namespace autosp
