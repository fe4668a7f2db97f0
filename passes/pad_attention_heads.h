#pragma once

#include <autosp/pass/pass.h>

namespace autosp {

// Normalized -> Normalized. Attention that a cut can reach and whose kv heads P does not divide: adds heads of zeros
// to query, key and value, so that the exchange of the sequence for the heads gives every rank the same number, and
// drops their results. g kv heads become g' = ceil(g / P) * P, the h query heads g' * (h / g): groups stay as they are.
//
// Exact in value and gradient: scores of a zero head are 0, its weights uniform over the visible keys, its result 0,
// finite as the true heads are; the slice drops it, so nothing flows back. A mask that is per head gets entries that
// hide nothing (true, or 0), one that is broadcast over the heads is left alone.
//
// The remark tells the waste; it is a warning when more than half of the slots are empty. expand_kv_heads, before,
// chose the number of groups that wastes least.
//   %o = aten.scaled_dot_product_attention(%q: [b, 7, s, d], %k: [b, 7, s, d], %v, %mask: [b, 7, s, s])     "sp"=4
//   ->  %q_padded = aten.pad(%q, [0, 0, 0, 0, 0, 1], "constant", 0.0): [b, 8, s, d]    likewise %k, %v, %mask
//       %o = aten.scaled_dot_product_attention(%q_padded, %k_padded, %v_padded, %mask_padded): [b, 8, s, d]
//       %o_heads = aten.slice.Tensor(%o, 1, 0, 7): [b, 7, s, d]
std::unique_ptr<Pass> MakePadAttentionHeadsPass();

}  // namespace autosp
