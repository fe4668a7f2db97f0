// The joint graph of AOTAutograd: what the planner must be told about it, and its decisions.
#include "bridge.h"
#include "status_conversion.h"

#include <autosp/analysis/longest_sequence.h>
#include <autosp/pass/pass_options.h>

#include <plan_activation_checkpoints.h>

#include <pybind11/stl.h>

#include <map>
#include <set>
#include <string>
#include <vector>

namespace autosp::bindings {
namespace {

// Nodes are named by Node::origin, their position in the imported framework graph.
void MarkJoint(FxGraph& graph, std::int64_t forward_outputs, const std::set<int>& tangents,
               const std::set<int>& must_keep, const std::set<int>& must_recompute, const std::set<int>& run_once,
               const std::set<int>& written, bool tangents_held) {
  graph.tangents_held = tangents_held;
  graph.graph.set_form(Form::kJoint);
  graph.graph.set_forward_outputs(forward_outputs);
  for (const auto& node : graph.graph.nodes()) {
    node->tangent = node->is_input() && tangents.contains(node->origin);
    node->written = written.contains(node->origin);
    if (!node->is_call()) continue;
    if (must_keep.contains(node->origin)) node->choice = Node::Choice::kKeep;
    if (must_recompute.contains(node->origin)) node->choice = Node::Choice::kRecompute;
    if (run_once.contains(node->origin)) node->choice = Node::Choice::kOnce;
  }
}

py::dict Numbers(const JointView& view, const CheckpointPlan& plan) {
  py::dict row;
  row["peak_bytes"] = plan.memory.peak;
  row["forward_peak_bytes"] = plan.memory.forward_peak;
  row["backward_peak_bytes"] = plan.memory.backward_peak;
  row["kept_bytes"] = plan.memory.kept;
  row["recompute_seconds"] = plan.recompute_seconds;
  row["step_seconds"] = plan.step_seconds;
  row["peak_at"] = plan.memory.at == nullptr ? "" : plan.memory.at->name;
  row["regions"] = view.regions();
  return row;
}

// `values`: lengths other than the hints.
PlannerOptions ReadOptions(const FxGraph& graph, const py::dict& options,
                           const std::map<std::string, std::int64_t>& values) {
  PassOptions pass_options;
  Status status;
  for (const auto& [key, value] : options) {
    status.Append(SetOption(pass_options, py::str(key).cast<std::string>(), py::str(value).cast<std::string>()));
  }
  RaiseIfError(status);
  PlannerOptions planner = ValueOrRaise(ReadPlannerOptions(graph.graph, pass_options));
  planner.tangents_held = graph.tangents_held;
  for (const auto& [symbol, value] : values) planner.values[symbol] = value;
  return planner;
}

std::int64_t LongestJoint(const FxGraph& graph, const py::dict& options, const std::string& symbol, double bytes,
                          std::int64_t multiple, std::int64_t limit) {
  PlannerOptions planner = ReadOptions(graph, options, {});
  planner.budget = bytes;
  return LongestThatFits(graph.graph, planner, symbol, multiple, limit);
}

// Symbols of sizes that only the data decides; their bytes are counted for kUnknownSize.
std::vector<std::string> SizesWithoutHint(const Graph& graph, const SymbolValues& values) {
  std::set<std::string> found;
  for (const auto& node : graph.nodes()) {
    for (const Dim& dim : node->type.shape) {
      for (const std::string& symbol : dim.Symbols()) {
        if (!values.contains(symbol)) found.insert(symbol);
      }
    }
  }
  return {found.begin(), found.end()};
}

// The numbers of a plan, and by origin what is kept and what is computed again.
py::dict PlanJoint(const FxGraph& graph, const py::dict& options, const std::map<std::string, std::int64_t>& values) {
  const PlannerOptions planner = ReadOptions(graph, options, values);
  const JointView view(graph.graph, planner.values, planner.device, planner.tangents_held);
  const Expected<CheckpointPlan> planned = PlanCheckpoints(view, planner);
  if (!planned.ok()) RaiseIfError(WithLongestThatFits(planned.status(), graph.graph, planner));
  const CheckpointPlan& plan = *planned;
  py::dict row = Numbers(view, plan);
  std::vector<int> keep, recompute;
  for (int i = 0; i < view.size(); ++i) {
    if (plan.choice.keep[i]) keep.push_back(view[i].node->origin);
    if (plan.choice.recompute[i] || view[i].late) recompute.push_back(view[i].node->origin);
  }
  row["keep"] = keep;
  row["recompute"] = recompute;
  row["bounds"] = BoundsOfPlan(graph.graph, planner, plan.choice);
  row["assumed"] = SizesWithoutHint(graph.graph, planner.values);
  return row;
}

}  // namespace

void BindJoint(py::module_& module) {
  module.def("mark_joint", &MarkJoint, py::arg("graph"), py::arg("forward_outputs"), py::arg("tangents"),
             py::arg("must_keep") = std::set<int>(), py::arg("must_recompute") = std::set<int>(),
             py::arg("run_once") = std::set<int>(), py::arg("written") = std::set<int>(),
             py::arg("tangents_held") = false,
             "Makes an imported graph a joint one; nodes are given by their position in the imported graph.");
  module.def(
      "plan_joint", &PlanJoint, py::arg("graph"), py::arg("options"),
      py::arg("values") = std::map<std::string, std::int64_t>(),
      "The checkpoint plan of a joint graph for the lengths in `values` (default: the hints): bytes, seconds, and "
      "what is kept and computed again.");
  module.def("is_view_op", &IsViewOp, py::arg("op"),
             "Whether the memory model takes the result of this operator for a view of its first operand.");
  module.def("longest_joint", &LongestJoint, py::arg("graph"), py::arg("options"), py::arg("symbol"), py::arg("bytes"),
             py::arg("multiple"), py::arg("limit"),
             "The largest multiple of `multiple`, up to `limit`, that a plan with these options fits into so many "
             "bytes when it is put for the size `symbol`; 0: none does.");
}

}  // namespace autosp::bindings
