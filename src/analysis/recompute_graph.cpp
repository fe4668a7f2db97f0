#include <autosp/analysis/recompute_graph.h>

#include <autosp/analysis/joint_view.h>

namespace autosp {

Graph UnrollRecomputation(const Graph& planned) {
  Graph graph = planned.Clone();
  graph.set_form(Form::kJoint);
  std::vector<Node*> nodes;
  for (const auto& node : graph.nodes()) nodes.push_back(node.get());
  // Costs do not matter here, only what is forward and what is not.
  const JointView view(graph, {}, DeviceModel{});
  std::map<const Node*, bool> in_backward;  // Looked up only.
  for (const JointValue& value : view.values()) in_backward[value.node] = !value.forward;

  std::map<const Node*, Node*> again;  // Looked up only.
  const auto redirect = [&](Argument& argument) {
    ForEachNode(argument, [&](Node*& read) {
      if (const auto found = again.find(read); found != again.end()) read = found->second;
    });
  };
  for (Node* node : nodes) {
    if (node->is_output()) continue;
    if (in_backward[node]) {
      for (Argument& argument : node->args) redirect(argument);
      for (auto& [name, argument] : node->attributes) redirect(argument);
    } else if (node->recompute) {
      Node* copy = graph.InsertAfter(node, node->name + "_again", node->op, node->args, node->type);
      copy->attributes = node->attributes;
      for (Argument& argument : copy->args) redirect(argument);
      for (auto& [name, argument] : copy->attributes) redirect(argument);
      again[node] = copy;
    }
    node->recompute = false;
  }
  // Gradients that are forward values (a gradient of ones, say) are returned as they are.
  return graph;
}

}  // namespace autosp
