#pragma once

#include <autosp/pass/pass.h>

namespace autosp {

// Normalized -> Normalized. Dropout that trains (aten.dropout, aten.native_dropout, 0 < p) becomes a pure function of
// one seed per step and of where an element stands in the *whole* value, in ordinary ops. So a value that is cut draws
// on each rank exactly the numbers that its part of the whole would have, a value that is whole draws the same on every
// rank, and what backward computes again is what forward had; no later pass needs to know. With p = 1 nothing is drawn.
//
// The seed is drawn by each rank, from its own generator, and the largest counts (rule @draw_seed: a partial maximum,
// for which an all_reduce follows). Ranks with equal generators use the number that one process would.
//
// Element (r, c) of site k, r being its row (all dims but the last, counted through) and c its last index:
//     key1 = mix(low(seed) + k * odd)     key2 = mix(key1 ^ high(seed))            one pair per site, step and device
//     row  = mix(mix(low(r)) ^ high(r))   column = mix(c)                          one each per shape, for all sites
//     a = round(row ^ key1)               a' = round(a ^ key2)                     per row
//     b = round(column ^ key2)                                                     per column
//     e = round(round(round(a ^ b)) + a')          kept where e >= p * 2^32        per element
// on 32-bit numbers held in int64, `+` and `*` modulo 2^32. round(x) = (x ^ x >> s) * m is a bijection, and mix, two
// rounds and a last shift, is an xorshift-multiply hash (C. Wellons, "Prospecting for Hash Functions", 2018); the
// multipliers are below 2^31, so that no product leaves int64. a and a' are two hashes of one row: rows whose first
// ones meet in some element part again in the sum. So no mask repeats, nor among more than 2^32 elements. Positions are
// 1-D aranges until they meet the value, so that nothing of its size is whole.
//     %y = aten.dropout(%x: f32[2, s0, 64], 0.1, true)
//     ->  %dropout_seed = autosp_fx.draw_seed(2^62, []) ...   %y_mask = aten.ge.Scalar(%.., 429496730): bool[2, s0, 64]
//         %y_kept = aten.mul.Tensor(%x, %y_mask)        %y = aten.mul.Scalar(%y_kept, 1.1111111111111112)
//
// Refused (kRandomOnSharded): attention that drops out inside its kernel, whose random numbers follow its own order.
// On one rank (P = 1) and in evaluation the user's dropout stays as it is.
std::unique_ptr<Pass> MakeSeedDropoutPass();

}  // namespace autosp
