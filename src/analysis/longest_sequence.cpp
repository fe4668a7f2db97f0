#include <autosp/analysis/longest_sequence.h>

#include <fmt/format.h>

#include <algorithm>

namespace autosp {
namespace {

constexpr std::int64_t kUnbounded = 1 << 12;  // A size that may grow so many times over is no matter of memory.

bool Fits(const Graph& graph, const PlannerOptions& options, const SymbolValues& values) {
  const JointView view(graph, values, options.device, options.tangents_held);
  if (options.policy == CheckpointPolicy::kAuto) {
    const std::optional<double> peak = SmallestPeak(view);
    return peak && *peak <= options.budget;
  }
  const Expected<CheckpointPlan> plan = PlanCheckpoints(view, options);
  return plan.ok() && plan->memory.peak <= options.budget;
}

}  // namespace

std::int64_t LongestThatFits(const Graph& graph, const PlannerOptions& options, const std::string& symbol,
                             std::int64_t multiple, std::int64_t limit) {
  SymbolValues values = options.values;
  std::int64_t low = 0, high = limit / multiple + 1;
  while (low + 1 < high) {
    const std::int64_t middle = low + (high - low) / 2;
    values[symbol] = middle * multiple;
    (Fits(graph, options, values) ? low : high) = middle;
  }
  return low * multiple;
}

std::vector<std::pair<std::string, std::int64_t>> BoundsOfPlan(const Graph& graph, const PlannerOptions& options,
                                                               const CheckpointChoice& choice) {
  std::vector<std::pair<std::string, std::int64_t>> bounds;
  if (options.policy != CheckpointPolicy::kAuto || options.budget <= 0) return bounds;
  const auto fits = [&](const std::string& symbol, std::int64_t value) {
    SymbolValues values = options.values;
    values[symbol] = value;
    const JointView view(graph, values, options.device, options.tangents_held);
    return SimulateMemory(view, choice).peak <= options.budget;
  };
  for (const auto& [symbol, value] : options.values) {
    std::int64_t low = value, high = std::max<std::int64_t>(value, 1) * kUnbounded;
    if (fits(symbol, high)) continue;  // Memory does not depend on it.
    // The bound need not be the last token: each step builds the whole view.
    while (bounds.empty() && low + 1 + low / 64 < high) {
      const std::int64_t middle = low + (high - low) / 2;
      (fits(symbol, middle) ? low : high) = middle;
    }
    bounds.emplace_back(symbol, low);
  }
  return bounds;
}

Status WithLongestThatFits(Status status, const Graph& graph, const PlannerOptions& options) {
  if (options.policy != CheckpointPolicy::kAuto || options.budget <= 0) return status;
  Status result;
  for (Diagnostic diagnostic : status.diagnostics()) {
    for (const auto& [symbol, value] : options.values) {
      if (diagnostic.code != DiagnosticCode::kMemoryBudget) break;
      const std::int64_t longest = LongestThatFits(graph, options, symbol, 1, value);
      if (longest == value) continue;  // Not a size that memory depends on.
      diagnostic.notes.push_back(longest == 0
                                     ? fmt::format("{} = {} does not fit, nor does any shorter one", symbol, value)
                                     : fmt::format("{} = {} does not fit; {} and shorter do", symbol, value, longest));
    }
    result.Add(std::move(diagnostic));
  }
  return result;
}

}  // namespace autosp
