#pragma once

#include <autosp/pass/pass.h>

namespace autosp {

// Partitioned -> Partitioned, changes nothing. Proves that the rewritten program is the whole one, and refuses what is
// not, every place listed:
//  1. layouts: derived again from ops, local shapes and collectives, nothing of the propagation is read. A collective
//     takes what its attributes name; an op runs on one factor, cut alike on all operands that have it; partial values
//     are read by their reduction only, and a padded tail was masked before a sum (kLayoutConflict).
//  2. what is returned is whole or cut, never partial; outputs="gathered" and "loss_only" return nothing cut.
//  3. in a pipeline that began with the whole program: apart from moves and integer arithmetic the same calls, over the
//     same values, with the same arguments, sizes local where a dim is cut (kLayoutConflict).
//  4. gradients: what each rank holds of every cotangent, from the outputs back to the trained inputs, sums to what the
//     whole program has (kCotangentConflict).
//   Deleting the all_to_all before an attention leaves its keys cut on a factor that is needed whole: refused by 1.
//   Swapping the all_to_all of keys with that of values: refused by 3. An all_reduce of a maximum over trained values
//   has no adjoint: refused by 4.
std::unique_ptr<Pass> MakeVerifyPartitionedPass();

}  // namespace autosp
