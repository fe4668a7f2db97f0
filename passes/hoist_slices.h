#pragma once

#include <autosp/pass/pass.h>

namespace autosp {

// Sharded -> Sharded. propagate-shardings looks forward: what does not depend on trained values stays whole and is
// sliced where a cut value meets it. This pass looks back: a whole value of which every reader takes the same slice is
// computed in that slice, if its op lets the factor pass from an operand. From the last node to the first, so that a
// chain moves up to its first value (an input, a table) and slices that many layers take become one.
//
//   %e = aten.unsqueeze(%cos, 1) : f32[1, 1, s0, 16]{whole}        %e : f32[1, 1, s0@sp, 16]
//   %y = aten.mul.Tensor(%q, %e) : f32[1, 4, s0@sp, 16]            and %cos in turn, if all its readers slice it
//
// Left whole: inputs and constants (slicing them is what the chain ends in), factories (arange has no operand that
// carries the positions), values with several results, values that are returned, repaired ops, and values that two
// readers want in two layouts.
std::unique_ptr<Pass> MakeHoistSlicesPass();

}  // namespace autosp
