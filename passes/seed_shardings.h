#pragma once

#include <autosp/pass/pass.h>

namespace autosp {

// Normalized -> Normalized. Checks the user's tags and states what holds for every run of this program:
//  1. At least one input is tagged (kNoTaggedInput), its tag names one of its dims (kBadTag), and it has no gradient
//     (kTaggedInputNeedsGrad: every rank would hold only its own part of it).
//     A fixed length of at most P is refused (kSequenceTooShort): a local size of 1 looks like a broadcast dim.
//  2. A tagged length s that the example inputs had as a multiple of P becomes the fact `s % P == 0`, guarded by the
//     exporter: with it no padding exists. Otherwise no fact is stated and every length runs, with a padded tail.
//       %ids: i64[2, s0] tag=1, hints {s0=64}, "sp"=4   ->   divisible {s0 % 4}
std::unique_ptr<Pass> MakeSeedShardingsPass();

}  // namespace autosp
