#pragma once

#include <autosp/pass/pass.h>

namespace autosp {

// Normalized -> Sharded. Gives every tensor one layout, by the rule table alone; no size is compared with another to
// find the sequence, only dims are followed from the tagged inputs.
//
// Late sharding. Every rank is fed the whole batch, so inputs are replicated and cutting a replicated value is free.
//  1. Each call gets one candidate: how it would run if it were cut (sharding/cut_candidates.h). Attention is computed
//     on its heads (Ulysses), written out as one op or as products and a softmax; readers see it cut on the sequence
//     again.
//  2. Which calls are cut is a minimum cut over prices in bytes (sharding/sharding_cut.h): whole results cost memory
//     and work, exchanges and gathers cost traffic, slices nearly nothing. So label shifts, masks and positions stay
//     whole where that is cheap, with no halo and no index arithmetic per rank, hidden states are cut from the
//     embedding on, and an op that mixes positions is gathered where the fewest bytes flow.
//  3. What is gathered is reported, or refused: on_gather allow | warn | error, gather_limit. A graph of which nothing
//  is cut warns.
//
//   %ids: i64[2, s0] tag=1, %w: f32[256, 64] grad
//   %x = aten.embedding(%w, %ids)     cut, x f32[2, s0@sp, 64], ids are cut where they are read
//   %y = aten.linear(%x, %w2)         y f32[2, s0@sp, 64]
//   %m = aten.sum(%y)                 m f32[]{sum:sp}
//
// Errors, each kind listed in full: kNoRule, kRandomOnSharded, kHeadsNotDivisible, kGatherRefused, kNoLossOutput.
std::unique_ptr<Pass> MakePropagateShardingsPass();

}  // namespace autosp
