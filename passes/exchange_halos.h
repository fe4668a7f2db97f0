#pragma once

#include <autosp/pass/pass.h>

namespace autosp {

// Normalized -> Normalized. An operation that computes each position from a few neighbours needs no whole sequence:
// each rank needs the edges of its neighbours' blocks, its halo. Where a cut can reach the operand, and P times the
// width of the halo is less than the length (else a gather sends no more), the operation gets a name of its own, whose
// rule lets the sequence pass:
//
//  1. autosp_fx.halo_conv1d(x, weight, bias, left, right, dilation, groups, length, cut): conv1d with stride 1 of x
//  with
//     `left` zeros before and `right` after it, left + right = (kernel - 1) * dilation, so that it keeps the length.
//     From a conv1d that pads by itself, reads an aten.pad of zeros, or is only read in one slice of the length of x
//     (causal).
//  2. autosp_fx.shift(x, dim, amount, length, cut): y[i] = x[i - amount], 0 outside of x. From a pad by [n, -n], a
//  slice
//     of a pad or a pad of a slice, and zeros joined with a slice.
//
// `length` is the size of the whole dim and `cut` whether the call runs on blocks, which convert-global-to-local fills
// in. lower-collectives spells both in ATen ops and one all_gather of the edges. What stays whole becomes a pad and a
// conv1d again. Exact for any length and any width: a halo may reach over several ranks, and beyond the end are zeros.
//   %c = aten.conv1d(%x: f32[1, 8, s0], %w: f32[8, 1, 4], none, [1], [3], [1], 8) : f32[1, 8, s0 + 3]
//   %y = aten.slice.Tensor(%c, 2, 0, %s0) : f32[1, 8, s0]
//   ->  %y = autosp_fx.halo_conv1d(%x, %w, none, 3, 0, 1, 8, %s0, false) : f32[1, 8, s0]
// The remark tells what is sent instead of the whole.
std::unique_ptr<Pass> MakeExchangeHalosPass();

}  // namespace autosp
