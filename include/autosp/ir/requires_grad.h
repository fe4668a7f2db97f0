#pragma once

#include <autosp/ir/graph.h>

namespace autosp {

// Recomputes type.requires_grad of every call result in program order; inputs keep theirs. A floating tensor result
// (also inside a tuple) requires a gradient when grad mode is on and an operand requires one;
// builtin.set_grad_enabled(true | false) switches the mode, which is on at the start. aten.detach* and ops that read
// only the shape of their operand (zeros_like, new_empty, ...) never do; builtin.getitem takes what its element has.
void InferRequiresGrad(Graph& graph);

}  // namespace autosp
