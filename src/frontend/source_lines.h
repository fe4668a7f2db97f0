#pragma once

#include <autosp/ir/graph.h>

#include <torch/csrc/jit/ir/ir.h>

namespace autosp::frontend {

// The user's line of a node: the innermost frame that is not inside the framework.
Provenance ProvenanceOf(const torch::jit::Node& node);

}  // namespace autosp::frontend
