#include <algorithm>
#include <set>

#include "program_check.h"

namespace autosp::test {
namespace {

// Without what the outputs do not need; tagged inputs stay, since a program without one is refused, and so does the
// switching of grad mode.
void RemoveUnread(Graph& graph) {
  std::set<const Node*> needed;  // Looked up only.
  for (auto it = graph.nodes().rbegin(); it != graph.nodes().rend(); ++it) {
    const Node& node = **it;
    const bool stays = node.is_output() || node.seq_dim >= 0 || node.is_call("builtin.set_grad_enabled");
    if (!stays && !needed.contains(&node)) continue;
    needed.insert(&node);
    for (const Node* operand : node.operands()) needed.insert(operand);
  }
  graph.RemoveIf([&](const Node& node) { return !needed.contains(&node); });
}

class Shrinker {
 public:
  Shrinker(const Program& program, const CheckOptions& options)
      : best_(Copy(program)), options_(options), kind_(CheckProgram(program, options).kind) {}

  Program Run() {
    bool smaller = true;
    while (smaller && tries_ > 0) {
      smaller = FewerOutputs();
      smaller = FewerCalls() || smaller;
      smaller = SmallerRun() || smaller;
    }
    return std::move(best_);
  }

 private:
  bool Keep(Program candidate) {
    if (--tries_ < 0) return false;
    RemoveUnread(candidate.graph);
    const Verdict verdict = CheckProgram(candidate, options_);
    if (verdict.outcome != Outcome::kFailed || verdict.kind != kind_) return false;
    best_ = std::move(candidate);
    return true;
  }

  bool FewerOutputs() {
    bool any = false;
    for (std::size_t i = best_.graph.output()->args.size(); i-- > 0;) {
      if (best_.graph.output()->args.size() < 2) break;
      Program candidate = Copy(best_);
      auto& args = candidate.graph.output()->args;
      args.erase(args.begin() + static_cast<std::ptrdiff_t>(i));
      any = Keep(std::move(candidate)) || any;
    }
    return any;
  }

  // From the last call to the first: one of its operands of the same type in its place, else an input.
  bool FewerCalls() {
    bool any = false;
    std::vector<std::string> names;
    for (const auto& node : best_.graph.nodes()) {
      if (node->is_call()) names.push_back(node->name);
    }
    for (auto name = names.rbegin(); name != names.rend(); ++name) {
      const Node* node = best_.graph.Find(*name);
      if (node != nullptr && node->is_call()) any = Replace(*name) || any;
    }
    return any;
  }

  bool Replace(const std::string& name) {
    const std::size_t operands = best_.graph.Find(name)->operands().size();
    for (std::size_t i = 0; i < operands; ++i) {
      Program candidate = Copy(best_);
      Node* node = candidate.graph.Find(name);
      Node* operand = node->operands()[i];
      if (operand->type.kind != node->type.kind || operand->type.shape != node->type.shape ||
          operand->type.dtype != node->type.dtype || operand->type.number != node->type.number) {
        continue;
      }
      candidate.graph.ReplaceUses(node, operand);
      if (Keep(std::move(candidate))) return true;
    }
    Program candidate = Copy(best_);
    Node* node = candidate.graph.Find(name);
    if (!node->type.is_tensor()) return false;
    const bool constant =
        std::all_of(node->type.shape.begin(), node->type.shape.end(), [](const Dim& d) { return d.is_constant(); });
    if (node->type.requires_grad && !constant) return false;  // No weight has a length that changes.
    Node* input = candidate.graph.AddInput("in", node->type);
    candidate.graph.ReplaceUses(node, input);
    return Keep(std::move(candidate));
  }

  bool SmallerRun() {
    bool any = false;
    if (best_.runs.size() > 1) {
      for (const std::size_t keep : {0, 1}) {
        Program candidate = Copy(best_);
        candidate.runs = {best_.runs[keep]};
        candidate.graph.hints() = candidate.runs.front();
        if (Keep(std::move(candidate))) return true;
      }
    }
    if (best_.lowered) {
      Program candidate = Copy(best_);
      candidate.lowered = false;
      any = Keep(std::move(candidate)) || any;
    }
    for (const auto& option : {&PassOptions::outputs, &PassOptions::attention}) {
      Program candidate = Copy(best_);
      candidate.options.*option = PassOptions().*option;
      if (candidate.options.*option != best_.options.*option) any = Keep(std::move(candidate)) || any;
    }
    for (int ranks = 2; ranks < best_.ranks; ++ranks) {
      Program candidate = Copy(best_);
      candidate.ranks = ranks;
      candidate.options.sequence_parallel_size = ranks;
      if (Keep(std::move(candidate))) return true;
    }
    if (best_.runs.size() == 1 && best_.runs[0].contains("s0")) {
      for (std::int64_t length = 2; length < best_.runs[0].at("s0"); ++length) {
        Program candidate = Copy(best_);
        candidate.runs[0]["s0"] = length;
        candidate.graph.hints() = candidate.runs[0];
        if (Keep(std::move(candidate))) return true;
      }
    }
    return any;
  }

  Program best_;
  const CheckOptions& options_;
  const std::string kind_;
  int tries_ = 2000;
};

}  // namespace

Program Shrink(const Program& program, const CheckOptions& options) { return Shrinker(program, options).Run(); }

}  // namespace autosp::test
