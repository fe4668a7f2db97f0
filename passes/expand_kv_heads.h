#pragma once

#include <autosp/pass/pass.h>

namespace autosp {

// Normalized -> Normalized. Grouped-query attention whose kv heads P does not divide: repeats kv heads, before the
// exchange and no more than needed, so that every rank gets the kv heads that its query heads read. With g kv heads and
// h query heads: g' = lcm(g, P) if g' divides h (g = 1, P = 4: 4; g = 2, P = 4: 4; g = 6, h = 24, P = 4: 12), otherwise
// h. Query head i still reads the values of kv head i / (h / g). Does nothing when P divides g, or does not divide h
// (propagate_shardings refuses that).
//   %o = aten.scaled_dot_product_attention(%q: [b, 4, s, d], %k: [b, 1, s, d], %v) {enable_gqa=true}      "sp"=4
//   ->  %k_heads = aten.repeat_interleave.self_int(%k, 4, 1): [b, 4, s, d]   and the same for %v
std::unique_ptr<Pass> MakeExpandKvHeadsPass();

}  // namespace autosp
