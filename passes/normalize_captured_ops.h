#pragma once

#include <autosp/pass/pass.h>

namespace autosp {

// Captured -> Normalized. Rewrites ops whose result cannot be put together from parts of the sequence into ones that
// can:
//
//  1. A mean loss over class indices becomes a sum and a count, so that the count can be taken from the whole labels:
//       %l = aten.cross_entropy_loss(%x, %t)                       ->  %l      = aten.cross_entropy_loss(%x, %t)
//       {reduction=2}
//                                                                      %l_valid = aten.ne.Scalar(%t, -100)
//                                                                      %l_count = aten.sum(%l_valid)
//                                                                      %l_mean  = aten.div.Tensor(%l, %l_count)
//     With class weights the count is the sum of the weights of the labels that count; with class probabilities as
//     targets it is the number of positions.
//  2. A mean over anything but the last dim becomes a sum divided by the number of elements. (Over the last dim it is a
//     norm in practice; left alone, it keeps its rounding.)
//     Both are taken in f32 where the dtype is f16 or bf16, as the mean does inside, and cast back at the end.
//  3. An operation that writes to its operand becomes its out-of-place form when nobody can see the difference: the
//     operand is fresh memory (arithmetic, contractions, factories), no earlier reader may be a view of it, gradients
//     are recorded as for the operand, and no other operand would promote its dtype. Otherwise kMutatedInput.
//  4. A conversion to the dtype and device that the operand has already is the operand: aten.to.* returns it as it is.
std::unique_ptr<Pass> MakeNormalizeCapturedOpsPass();

}  // namespace autosp
