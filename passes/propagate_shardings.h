#pragma once

#include <autosp/pass/pass.h>

namespace autosp {

// Normalized -> Sharded. Gives every tensor one layout, by the rule table alone; no size is compared with another to
// find the sequence, only dims are followed from the tagged inputs.
//
// Late sharding. Every rank is fed the whole batch, so inputs are replicated and cutting a replicated value is free. A
// value carries a *latent* layout (how it would lie if it were cut) from the tag onwards. It is cut at the first op
// whose result depends on something that is trained; what does not (label shifts, masks, positions) stays whole on
// every rank and is cut where a cut value meets it. So no halo, no index arithmetic per rank, no special case for
// masks.
//
// Per op, in program order:
//  1. operands cut on a factor the rule lets pass (or sum): the cheapest such factor in bytes moved; ties go to the
//     earliest operand. Operands without the factor are needed whole, others are needed cut on it.
//  2. attention with a cut key sequence: computed on the head factor (Ulysses); readers see it cut on the sequence
//  again.
//  3. no cut operand, but a latent layout and a trained result: the latent layout is taken.
//  4. otherwise whole. Cut operands are then gathered: on_gather allow | warn | error.
//
//   %ids: i64[2, s0] tag=1, %w: f32[256, 64] grad
//   %x = aten.embedding(%w, %ids)     x is trained: cut, x f32[2, s0@sp, 64], ids are cut where they are read
//   %y = aten.linear(%x, %w2)         y f32[2, s0@sp, 64]
//   %m = aten.sum(%y)                 m f32[]{sum:sp}
//
// Errors, each kind listed in full: kNoRule, kRandomOnSharded, kHeadsNotDivisible, kGatherRefused, kNoLossOutput.
std::unique_ptr<Pass> MakePropagateShardingsPass();

}  // namespace autosp
