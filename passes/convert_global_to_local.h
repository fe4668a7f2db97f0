#pragma once

#include <autosp/pass/pass.h>

namespace autosp {

// Resharded -> Partitioned. Shapes become those of one rank, once and last; layouts are cleared (verify_partitioned
// finds them again from ops and collectives alone).
//  1. a cut dim of size major*length*minor becomes major*ceildiv(length, P)*minor (floordiv where P divides length).
//  2. arguments that are sizes (the rule's `sizes` parameter) become local where their dim is cut; -1 stays.
//  3. a slice that takes everything of a cut dim ends at the largest int instead of the global length.
//  4. sym_size of a cut dim is a number about the whole value: its readers get the global size.
//  5. a view becomes a reshape, which is a view wherever there can be one: what an exchange hands on may lie in memory
//     otherwise than in the whole program (heads first, not positions), and then a view fails at run time.
//  6. a convolution or shift that reads neighbours is told whether it runs on a block (cut=true): its `length` is that
//  of
//     the whole dim, and what it lacks it gets from the other ranks.
//   %v = aten.view(%x: f32[2, s0@sp, 64], [2, %s0, -1, 16]) : f32[2, s0@sp, 4, 16]
//   ->  %v = aten.reshape(%x, [2, %local, -1, 16]) : f32[2, floordiv(s0, 4), 4, 16]
std::unique_ptr<Pass> MakeConvertGlobalToLocalPass();

}  // namespace autosp
