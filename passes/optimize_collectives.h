#pragma once

#include <autosp/pass/pass.h>

namespace autosp {

// Resharded -> Resharded. Removes communication that the local decisions before it left behind, until nothing changes:
//  1. a collective over the inverse of itself is the value before both, when layouts agree exactly:
//       all_to_all(all_to_all(%x, a -> b), b -> a)    shard_slice(all_gather(%x, a), a)    all_gather(shard_slice(%x,
//       a), a)
//  2. all_to_all(shard_slice(%x, a), a -> b) is shard_slice(%x, b): the value was whole before.
//  3. equal collectives of one value are done once.
//  4. collectives that nobody reads go.
// Padding: a tail's values are unspecified, so a value whose tail was dropped and made again is the same value.
std::unique_ptr<Pass> MakeOptimizeCollectivesPass();

}  // namespace autosp
