#pragma once

#include <autosp/analysis/checkpoint_planner.h>
#include <autosp/pass/pass.h>

namespace autosp {

// Joint -> Planned. Marks every forward value that backward computes again with `checkpoint`, by the options
// checkpoint, memory_budget and device; a value that backward reads and that has no mark is kept. Nothing else changes.
// Policy and method: analysis/checkpoint_planner.h. "none" marks what costs nothing (views).
//
//   %h = aten.mm(%x, %w) : f32[512, 64]                       %h = aten.mm(%x, %w) : f32[512, 64]
//   %a = aten.silu(%h) : f32[512, 64]                         %a = aten.silu(%h) : f32[512, 64] checkpoint
//   ...
//   return %y backward %gx, %gw                               return %y backward %gx, %gw
//
// Remarks: the predicted peak, kept bytes and seconds of recomputation. Errors: kMemoryBudget, kBadOption.
std::unique_ptr<Pass> MakePlanActivationCheckpointsPass();

// What the options say, for this graph; the lengths are the graph's hints.
Expected<PlannerOptions> ReadPlannerOptions(const Graph& graph, const PassOptions& options);

}  // namespace autosp
