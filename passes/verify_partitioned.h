#pragma once

#include <autosp/pass/pass.h>

namespace autosp {

// Partitioned -> Partitioned, changes nothing. Derives the layout of every value again, from the ops, their local
// shapes and the collectives alone, and refuses (kLayoutConflict, every place listed) what is not the whole program:
//  1. inputs are whole; a collective takes the layout that its attributes name (all_gather of what is not cut so,
//     all_reduce of something that is not partial, slice of something that is not whole ... are errors).
//  2. an op whose operands are cut runs on one factor: every operand that has the factor is cut on it alike, the
//     factor may be cut (not needed whole), and sizes agree; a summed factor makes the result partial.
//  3. a partial value is read by its reduction only, and its padded tail was masked before the sum.
//  4. what is returned is whole or cut, never partial; outputs="gathered" and "loss_only" return nothing cut.
//   Deleting the all_to_all before an attention leaves its keys cut on a factor that is needed whole: refused by 2.
std::unique_ptr<Pass> MakeVerifyPartitionedPass();

}  // namespace autosp
