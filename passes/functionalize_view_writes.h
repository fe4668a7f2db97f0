#pragma once

#include <autosp/pass/pass.h>

namespace autosp {

// Captured -> Captured. A tensor that a program makes and then fills part by part becomes the concatenation of its
// parts:
//
//   %k = aten.new_empty(%x, [2, %s, 12])                   ->
//   %v = aten.slice.Tensor(%k, 2, 0, 8)
//   %a = aten.copy_(%v, %nope)
//   %w = aten.slice.Tensor(%k, 2, 8, 9223372036854775807)
//   %b = aten.copy_(%w, %rope)                                 %b_parts = aten.cat([%nope, %rope], 2)
//
//  1. What is written: a slice (of step 1) or one index of a tensor that a factory made (empty, zeros, full, clone), or
//     of a concatenation from here. copy_, fill_ and zero_ write. What is not overwritten stays a slice of the old one.
//  2. Readers after the write read the new value, those before it the old one. Who reads the view again reads a view of
//     the new tensor: a later write to either is refused by normalize-captured-ops, the source may be written.
//  3. A write stays as it is (and normalize-captured-ops then says why it cannot be trained) when another view of the
//     tensor may be read later, when the source has another shape than the view, when it cuts through a part that was
//     written, or when gradients are off and the tensor or the source has one.
std::unique_ptr<Pass> MakeFunctionalizeViewWritesPass();

}  // namespace autosp
