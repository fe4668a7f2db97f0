#pragma once

#include <autosp/pass/pass.h>

namespace autosp {

// Sharded -> Sharded. Kv heads that the user's program repeats for grouped queries (unsqueeze, expand, reshape: what
// Hugging Face does where a mask is given) are exchanged before they are repeated: the calls that repeat are computed
// on the rank's own heads instead of its own positions, on h / g times fewer bytes on the wire. Layouts change, ops do
// not, so attention still sees every head and takes the kernel that it would have taken.
//
// A chain is moved when
//  1. attention on exchanged heads is the only reader of its last value, and each other value of it is read by the next
//     one alone;
//  2. its calls only copy, repeat or reshape, and repeat in whole groups: head i of the result is a copy of head i / r;
//  3. P divides the g heads before it (otherwise a rank would need parts of a group), and they take fewer bytes.
// Attention is then cut in the same groups (strategy.h: an operand that lies cut on its heads decides how).
//     %u = aten.unsqueeze(%k: [b, 2, s@sp, d], 2) : [b, 2, 1, s@sp, d]          "sp"=2
//     %e = aten.expand(%u, [b, 2, 4, s, d])       : [b, 2, 4, s@sp, d]
//     %h = aten.reshape(%e, [b, 8, s, d])         : [b, 8, s@sp, d]
//   ->  %u: [b, 2@sp, 1, s, d]   %e: [b, 2@sp, 4, s, d]   %h: [b, (2@sp, 4), s, d]      %k is exchanged where %u reads
//   it
std::unique_ptr<Pass> MakeHoistExchangesPass();

}  // namespace autosp
