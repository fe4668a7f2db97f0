#pragma once

#include <autosp/pass/pass.h>

namespace autosp {

// Any form, kept. Removes calls whose result nobody reads, and then what only those read, when leaving them out cannot
// be noticed. Stays, read or not:
//  1. inputs, and the op `builtin.set_grad_enabled`, which acts on all ops after it;
//  2. ops that write to an operand (in-place, out= and norms that update running statistics);
//  3. ops that draw random numbers: without them, all later ones would draw others;
//  4. ops that check something ("assert" or "constrain" in the name);
//  5. higher-order ops and ops of libraries that this pass does not know: they may do anything.
// Collectives go like any other call: the program is the same on all ranks, so all of them leave it out together.
//   %y = aten.mul.Tensor(%x, 2)
//   %z = aten.add.Tensor(%y, 1)     nobody reads %z: both are removed
std::unique_ptr<Pass> MakeEliminateDeadNodesPass();

}  // namespace autosp
