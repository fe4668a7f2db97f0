#pragma once

#include "length_probes.h"
#include "script_value.h"

#include <torch/csrc/jit/ir/ir.h>

#include <cstddef>
#include <string>
#include <vector>

namespace autosp::frontend {

// The value of an operand at one probed length, typed as the node wants it. Tensors have no data.
c10::IValue AtProbe(const ScriptValue& value, const c10::TypePtr& type, const LengthProbes& probes, std::size_t probe);

struct ProbeResult {
  std::vector<c10::IValue> values;  // The results of the node.
  std::string error;                // Why there are none; empty when there are.
};

// Runs one operation at one probed length. Operations that have no kernel for tensors without data run on zeros that
// take no memory.
ProbeResult RunAtProbe(const torch::jit::Node& node, const std::vector<ScriptValue>& operands,
                       const LengthProbes& probes, std::size_t probe);

// A tensor like this one on the meta device.
at::Tensor WithoutData(const at::Tensor& tensor);

}  // namespace autosp::frontend
