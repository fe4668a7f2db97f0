#pragma once

#include "length_probes.h"
#include "script_value.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace autosp::frontend {

// A condition on sizes that held at every probed length, and that the imported program takes for granted.
struct ScalarResult {
  ScriptValue value;
  std::string refusal;  // not empty: there is no value, and why
};

// Arithmetic and comparisons (kind "aten::floordiv", "prim::max", ...) of integers of which at least one depends on the
// length. Nothing: not such an operation.
std::optional<ScalarResult> EvaluateScalar(std::string_view kind, const std::vector<ScriptValue>& operands,
                                           LengthProbes& probes);

}  // namespace autosp::frontend
