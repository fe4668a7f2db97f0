#pragma once

#include <autosp/analysis/memory_profile.h>
#include <autosp/support/status.h>

#include <optional>
#include <string>
#include <vector>

namespace autosp {

// How much backward keeps:
//   none  everything that costs time to compute again
//   full  per repeated block (layer) what enters it; outside of blocks like none
//   sac   full, and what attention returns: its cost grows with the square of the length, all else with the length
//   auto  the least recomputation whose predicted peak is within the budget
enum class CheckpointPolicy : std::uint8_t { kNone, kFull, kSac, kAuto };
std::optional<CheckpointPolicy> CheckpointPolicyFromString(std::string_view text);

struct PlannerOptions {
  CheckpointPolicy policy = CheckpointPolicy::kAuto;
  double budget = 0;           // bytes of MemoryProfile::peak; kAuto only
  double budget_fraction = 0;  // instead: between the smallest peak that a plan reaches (0) and that of none (1)
  DeviceModel device;
  SymbolValues values;  // lengths to plan for
  // Who runs backward holds all tangents until it ends (torch 2.11), or hands them over (2.15).
  bool tangents_held = false;
};

struct CheckpointPlan {
  CheckpointChoice choice;
  MemoryProfile memory;
  double recompute_seconds = 0;
  double step_seconds = 0;  // of forward and backward without recomputation
};

// The plan of a policy. A value is kept or computed again from what is kept; the cheapest way to do so is a minimum cut
// (each value is split in two nodes: cutting between them keeps it and costs its bytes, cutting the edge from the
// source computes it again and costs mu * seconds). For kAuto mu runs over a fixed grid and is then bisected: cuts over
// a growing mu are nested, and each step asks only whether the peak is within the budget, so that a larger budget never
// gives more recomputation. Two families are searched, with and without what enters each layer kept; the cheaper plan
// is taken.
//
// Seconds are raised by up to 0.1 % towards the end of the program, so that equal layers change one at a time; the plan
// is optimal for its kept bytes within that.
// Errors: kMemoryBudget when no plan fits, with the smallest budget that does; kNoCheckpointPlan, one per value, when
// backward reads what can neither be kept nor computed a second time.
Expected<CheckpointPlan> PlanCheckpoints(const JointView& view, const PlannerOptions& options);

// The smallest predicted peak that kAuto reaches; nothing when no plan exists.
std::optional<double> SmallestPeak(const JointView& view);

// The nested plans of kAuto over its grid, least recomputation last; for tests and reports.
std::vector<CheckpointPlan> CheckpointHull(const JointView& view);

}  // namespace autosp
