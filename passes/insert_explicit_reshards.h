#pragma once

#include <autosp/pass/pass.h>

namespace autosp {

// Sharded -> Resharded. Makes every layout conflict a node; shapes stay global, so the graph still means the same
// program.
//  1. An operand that lies otherwise than its reader needs is read through autosp.reshard, placed right after its
//     producer (where gradients are recorded as for the value) and shared by all readers that need that layout.
//  2. An op computed on its repair factor (attention on heads) gets a reshard behind it, back to the layout that
//     propagate_shardings promised to its readers.
//  3. A sum over a cut factor that P does not divide sees padding: its operand passes through autosp.mask_padding.
//  4. Returned values: partial sums are reduced; with outputs="gathered" cut values are gathered; with "loss_only" cut
//     values are not returned (none).
//   %y = aten.add.Tensor(%x: f32[2, s0@sp, 64], %p: f32[2, s0, 64]{whole})
//   ->  %p_sp = autosp.reshard(%p) : f32[2, s0@sp, 64]      %y = aten.add.Tensor(%x, %p_sp)
std::unique_ptr<Pass> MakeInsertExplicitReshardsPass();

}  // namespace autosp
