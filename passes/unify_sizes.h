#pragma once

#include <autosp/pass/pass.h>

namespace autosp {

// Normalized -> Normalized. Gives sizes that must be equal one name. A framework that traces with one symbol per input
// dim has two symbols for the batch of ids and of labels; an operation that reads both proves them equal, and only then
// do layouts of flattened dims ([b, s] -> [b*s]) agree. A symbol is at least 2, so an operation that would broadcast 1
// proves it too.
//   %loss = aten.cross_entropy_loss(%x: f32[s0*s1, 256], %t: i64[s2*s1])     s2 becomes s0 everywhere
// A bias cut to a longest length (MPT's ALiBi) has a size that is a min or max; what adds it to scores of s positions
// proves s short enough, and where it is not, the program fails on one process as on many.
//   %y = aten.add.Tensor(%scores: f32[b, h, s0, s0], %bias: f32[h, 1, min(s0, 64)])     min(s0, 64) becomes s0
//   everywhere
// Only whole symbols that remain after common factors are cancelled are replaced, the later input's by the earlier's.
std::unique_ptr<Pass> MakeUnifySizesPass();

}  // namespace autosp
