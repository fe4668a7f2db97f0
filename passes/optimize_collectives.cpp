#include "optimize_collectives.h"

#include <autosp/ir/printer.h>

#include <algorithm>

namespace autosp {
namespace {

bool IsCollective(const Node& node) { return node.is_call() && node.op.starts_with("autosp."); }

// The text of a sharded layout as the attributes tell it: "dim=1 major=1 length=%s0 minor=1".
std::string LayoutText(const Node& node, const std::string& prefix) {
  std::string text;
  for (const char* part : {"dim", "major", "length", "minor"}) {
    const Argument* argument = node.attribute(prefix + part);
    text += (argument == nullptr ? std::string("-") : Print(*argument)) + " ";
  }
  return text;
}

// What a collective over `node`'s operand can be replaced with; null for nothing.
Node* Simplified(const Node& node) {
  Node* inner = node.args.empty() ? nullptr : node.args[0].node();
  if (inner == nullptr || !IsCollective(*inner) || inner->args.empty()) return nullptr;
  Node* before = inner->args[0].node();
  const auto pair = [&](const char* outer_op, const char* inner_op) {
    return node.op == outer_op && inner->op == inner_op;
  };
  if (pair("autosp.all_to_all", "autosp.all_to_all") && LayoutText(node, "") == LayoutText(*inner, "to_") &&
      LayoutText(node, "to_") == LayoutText(*inner, "")) {
    return before;
  }
  if ((pair("autosp.shard_slice", "autosp.all_gather") || pair("autosp.all_gather", "autosp.shard_slice")) &&
      LayoutText(node, "") == LayoutText(*inner, "")) {
    return before;
  }
  return nullptr;
}

// Case 2, in place.
bool SliceInsteadOfExchange(Node& node) {
  const Node* inner = node.args.empty() ? nullptr : node.args[0].node();
  if (node.op != "autosp.all_to_all" || inner == nullptr || !inner->is_call("autosp.shard_slice") ||
      LayoutText(node, "") != LayoutText(*inner, "")) {
    return false;
  }
  for (const char* part : {"dim", "major", "length", "minor"}) {
    node.set_attribute(part, *node.attribute(std::string("to_") + part));
    node.remove_attribute(std::string("to_") + part);
  }
  node.op = "autosp.shard_slice";
  node.args[0] = inner->args[0];
  return true;
}

bool MergeEqual(Graph& graph) {
  std::map<std::string, Node*> seen;
  bool changed = false;
  for (const auto& node : graph.nodes()) {
    if (!IsCollective(*node)) continue;
    std::string key = node->op;
    for (const Argument& argument : node->args) key += " " + Print(argument);
    for (const auto& [name, argument] : node->attributes) key += " " + name + "=" + Print(argument);
    Node*& first = seen[key];
    if (first == nullptr) {
      first = node.get();
    } else {
      graph.ReplaceUses(node.get(), first);
      changed = true;
    }
  }
  return changed;
}

bool RemoveUnread(Graph& graph) {
  const std::map<const Node*, std::vector<Node*>> users = graph.Users();
  return graph.RemoveIf([&](const Node& node) {
    const auto found = users.find(&node);
    return IsCollective(node) && (found == users.end() || found->second.empty());
  }) > 0;
}

bool Round(Graph& graph) {
  bool changed = false;
  for (const auto& node : graph.nodes()) {
    if (!IsCollective(*node)) continue;
    changed = SliceInsteadOfExchange(*node) || changed;
    if (Node* simpler = Simplified(*node)) {
      const std::map<const Node*, std::vector<Node*>> users = graph.Users();
      const auto found = users.find(node.get());
      if (found == users.end() || found->second.empty()) continue;
      graph.ReplaceUses(node.get(), simpler);
      changed = true;
    }
  }
  changed = MergeEqual(graph) || changed;
  return RemoveUnread(graph) || changed;
}

class OptimizeCollectivesPass : public Pass {
 public:
  const char* name() const override { return "optimize-collectives"; }
  Form form_in() const override { return Form::kResharded; }
  Form form_out() const override { return Form::kResharded; }
  const char* summary() const override {
    return "cancels inverse pairs, merges equal collectives, removes unread ones";
  }
  Expected<bool> Run(Graph& graph, PassContext& /*context*/) const override {
    bool changed = false;
    while (Round(graph)) changed = true;
    return changed;
  }
};

}  // namespace

std::unique_ptr<Pass> MakeOptimizeCollectivesPass() { return std::make_unique<OptimizeCollectivesPass>(); }

}  // namespace autosp
