#pragma once

#include <autosp/analysis/joint_view.h>

#include <vector>

namespace autosp {

// What backward keeps and what it computes again, by index into a JointView; neither: backward does not need it.
struct CheckpointChoice {
  std::vector<bool> keep, recompute;
  bool operator==(const CheckpointChoice&) const = default;
};

// Bytes that are alive during a training step, besides the inputs (parameters, batch).
struct MemoryProfile {
  double kept = 0;  // From forward to backward; memory that the forward returns anyway is not counted.
  double forward_peak = 0;
  double backward_peak = 0;
  double peak = 0;           // The larger of the two.
  const Node* at = nullptr;  // While this node runs.
  std::vector<double> live;  // After each step of `order` (forward steps first).
  std::vector<int> order;    // What runs: the forward, then the backward with what it computes again, each
                             // just before its first reader.
  int backward_begin = 0;    // Position in `order`.
};

// Simulates a step: a result's memory is allocated when its op runs and freed after the last reader of it or of a view
// of it; what is kept or returned stays, kept memory and tangents until their last reader in backward; gradients, and
// tangents that the caller holds, stay to the end.
MemoryProfile SimulateMemory(const JointView& view, const CheckpointChoice& choice);

}  // namespace autosp
