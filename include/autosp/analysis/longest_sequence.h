#pragma once

#include <autosp/analysis/checkpoint_planner.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace autosp {

// The largest multiple of `multiple`, at most `limit`, whose predicted peak is within options.budget bytes when it is
// put for the size `symbol` and the other sizes stay as options.values has them; 0 when none is. A fixed policy is
// asked for its own peak, kAuto for the smallest that any plan reaches. Peaks are taken to grow with a size: they are
// sums of tensor sizes.
std::int64_t LongestThatFits(const Graph& graph, const PlannerOptions& options, const std::string& symbol,
                             std::int64_t multiple, std::int64_t limit);

// Where a plan for a budget in bytes stops to hold: per size that its peak depends on, the largest value. The first
// such size may grow, up to where the peak of this choice reaches the budget; the others may not grow beyond
// options.values. Nothing for other plans. A step within these bounds stays within the budget, by prediction.
std::vector<std::pair<std::string, std::int64_t>> BoundsOfPlan(const Graph& graph, const PlannerOptions& options,
                                                               const CheckpointChoice& choice);

// Adds to a refused budget (kMemoryBudget), one note per symbolic size, the largest that would have fitted:
//   note: s27 = 8192 does not fit; 3104 and shorter do
// Any other status comes back as it is.
Status WithLongestThatFits(Status status, const Graph& graph, const PlannerOptions& options);

}  // namespace autosp
