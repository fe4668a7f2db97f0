#pragma once

#include <autosp/interp/spmd_interpreter.h>

#include <string>
#include <vector>

namespace autosp {

struct CompareOptions {
  // Largest |a - b| allowed, relative to the largest |a| of the tensor. Gradients much smaller than the largest
  // gradient of the graph are measured against 1e-3 of that one, since zeros are only zeros up to rounding.
  double tolerance = 1e-12;
  // Gradients below this are measured against it: one that is zero, like that of a norm over equal numbers, is nothing
  // but rounding. 0: none is.
  double smallest_gradient = 0;
  bool gradients = true;
  // A NaN equals a NaN. Off by default: a training graph has none.
  bool nan_equals_nan = false;
  // How output i of the partitioned graph lies over the ranks. Missing or unset: replicated if it has the whole shape,
  // sharded as a whole dim if exactly one dim has the size ceil(n / P).
  std::vector<Layout> output_layouts = {};
  SpmdOptions spmd = {};
};

// One compared tensor; `error` is infinite when shapes differ or a NaN stands on one side or (see the option) on both.
struct ComparedValue {
  std::string what;  // "output 0 on rank 1", "gradient of output 0 for %weight"
  double error = 0;
  std::string detail;  // Shapes that differ and the like; empty when there is nothing to say.
};

struct Comparison {
  double tolerance = 0;
  std::vector<ComparedValue> values;  // All that was compared, in a fixed order.
  // Where to look when something differs: the first value of the partitioned graph that is neither equal to the value
  // of the same name in the whole graph, nor a shard of it, nor a term of it. Empty when there is none.
  std::string first_suspect;

  bool equal() const;
  double worst_output() const;
  double worst_gradient() const;
  std::string ToString() const;  // Only what differs, worst first; one line when everything is equal.
};

// Runs `whole` on one rank and `partitioned` on `ranks` and compares outputs and gradients. A replicated output must be
// right on every rank and its gradients are averaged over the ranks; the shards of a sharded output are put together
// and its gradients are summed, since every rank then holds a part of the objective.
Expected<Comparison> CompareWithWhole(const Graph& whole, const Graph& partitioned, int ranks, const SpmdInputs& inputs,
                                      const CompareOptions& options = {});

}  // namespace autosp
