#include "plan_activation_checkpoints.h"

#include <autosp/analysis/longest_sequence.h>
#include <autosp/ir/printer.h>
#include <autosp/pass/byte_amount.h>
#include <autosp/pass/problem.h>

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace autosp {
namespace {

constexpr double kMebibyte = 1 << 20;

// "1.5 GiB", "300000" -> bytes; "0.25" -> a fraction.
Status ReadBudget(std::string_view text, PlannerOptions& options) {
  double fraction = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), fraction);
  const bool is_number = error == std::errc() && end == text.data() + text.size();
  if (is_number && text.find_first_of(".eE") != std::string_view::npos) {
    if (fraction >= 0 && fraction <= 1) {
      options.budget_fraction = fraction;
      return Status::Ok();
    }
  } else if (const std::optional<double> bytes = ParseBytes(text)) {
    options.budget = *bytes;
    return Status::Ok();
  }
  return MakeProblem(
      DiagnosticCode::kBadOption,
      fmt::format("memory_budget is \"{}\", it must be bytes (\"3.5 GiB\") or a fraction (\"0.5\")", text),
      "write bytes as a whole number or with a unit, a fraction with a point");
}

Expected<DeviceModel> ReadDeviceOption(const Graph& graph, const std::string& text) {
  if (text.find('=') != std::string::npos) return ReadDevice(text);
  if (text != "auto") return FindDevice(text);
  const bool on_gpu = std::any_of(graph.nodes().begin(), graph.nodes().end(), [](const auto& node) {
    return node->type.is_tensor() && node->type.device.starts_with("cuda");
  });
  return FindDevice(on_gpu ? "h100" : "cpu");
}

void Report(const JointView& view, const CheckpointPlan& plan, const Graph& graph, PassContext& context) {
  const MemoryProfile& memory = plan.memory;
  const std::string at = memory.at == nullptr ? "" : fmt::format(" at %{}", memory.at->name);
  context.remarks.push_back(
      {"plan-activation-checkpoints",
       "@" + graph.name(),
       fmt::format(
           "predicted peak {:.3f} MiB{} (forward {:.3f}, backward {:.3f}), kept {:.3f} MiB, recomputation {:.1f} % "
           "of the step, {} repeated blocks",
           memory.peak / kMebibyte, at, memory.forward_peak / kMebibyte, memory.backward_peak / kMebibyte,
           memory.kept / kMebibyte, 100 * plan.recompute_seconds / std::max(plan.step_seconds, 1e-30), view.regions()),
       {}});
}

class PlanActivationCheckpointsPass : public Pass {
 public:
  const char* name() const override { return "plan-activation-checkpoints"; }
  Form form_in() const override { return Form::kJoint; }
  Form form_out() const override { return Form::kPlanned; }
  const char* summary() const override { return "marks what backward computes again, within a memory budget"; }
  Expected<bool> Run(Graph& graph, PassContext& context) const override {
    AUTOSP_ASSIGN_OR_RETURN(const PlannerOptions options, ReadPlannerOptions(graph, context.options));
    const JointView view(graph, options.values, options.device, options.tangents_held);
    const Expected<CheckpointPlan> planned = PlanCheckpoints(view, options);
    if (!planned.ok()) return WithLongestThatFits(planned.status(), graph, options);
    const CheckpointPlan& plan = *planned;
    for (int i = 0; i < view.size(); ++i) const_cast<Node*>(view[i].node)->recompute = plan.choice.recompute[i];
    Report(view, plan, graph, context);
    graph.set_form(Form::kPlanned);
    return true;
  }
};

}  // namespace

Expected<PlannerOptions> ReadPlannerOptions(const Graph& graph, const PassOptions& options) {
  PlannerOptions result;
  result.policy = CheckpointPolicyFromString(options.checkpoint).value_or(CheckpointPolicy::kNone);
  result.values = graph.hints();
  Status status;
  Expected<DeviceModel> device = ReadDeviceOption(graph, options.device);
  if (device.ok()) {
    result.device = std::move(*device);
  } else {
    status.Append(device.status());
  }
  if (!options.memory_budget.empty()) {
    status.Append(ReadBudget(options.memory_budget, result));
    if (result.policy != CheckpointPolicy::kAuto) {
      status.Add(MakeProblem(
          DiagnosticCode::kBadOption,
          fmt::format("memory_budget is \"{}\", but checkpoint is \"{}\"", options.memory_budget, options.checkpoint),
          "only checkpoint=auto plans for a budget"));
    }
  } else if (result.policy == CheckpointPolicy::kAuto) {
    status.Add(MakeProblem(DiagnosticCode::kBadOption, "checkpoint is \"auto\" and there is no memory_budget",
                           "set memory_budget to bytes or to a fraction"));
  }
  if (!status.ok()) return status;
  return result;
}

std::unique_ptr<Pass> MakePlanActivationCheckpointsPass() { return std::make_unique<PlanActivationCheckpointsPass>(); }

}  // namespace autosp
