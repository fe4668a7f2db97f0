#pragma once

#include <autosp/pass/pass.h>

namespace autosp {

// Normalized -> Normalized. Grouped-query attention that a cut can reach and whose kv heads P does not divide: repeats
// kv heads, before the exchange, where that leaves fewer query heads to compute or fewer kv heads to send. Ranks get
// whole groups (a kv head and the h / g query heads that read it), so g groups take ceil(g / P) * P slots; what the
// heads do not fill is padding (pad_attention_heads). Repeating kv heads makes more, smaller groups. Of every g' that
// divides the h query heads and is a multiple of g, the one is taken with
//   1. the fewest query slots (they are computed, O(s^2) each, and exchanged twice), then
//   2. the fewest kv slots (they are exchanged), then
//   3. the smallest g'.
//      h  g  P  ->  g'  query slots  kv slots
//      8  2  4       4            8         4   enough kv heads for every rank, no padding
//      6  3  4       3            8         4   nothing is repeated: 3 groups of 2 in 4 slots
//     28  4  8      28           32        32   4 groups of 7 would be 56 query slots
//     12  1  5       4           15         5   12 groups of 1 would be 15 kv slots
// Query head i still reads the values of kv head i / (h / g). Head counts that are symbols are left alone.
//   %o = aten.scaled_dot_product_attention(%q: [b, 4, s, d], %k: [b, 1, s, d], %v) {enable_gqa=true}      "sp"=4
//   ->  %k_heads = aten.repeat_interleave.self_int(%k, 4, 1): [b, 4, s, d]   and the same for %v
std::unique_ptr<Pass> MakeExpandKvHeadsPass();

}  // namespace autosp
