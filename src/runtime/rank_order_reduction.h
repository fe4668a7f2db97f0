#pragma once

#include <autosp/runtime/call_signature.h>

#include <ATen/core/Tensor.h>

#include <vector>

namespace autosp::runtime {

// The reduction of the ranks' terms, taken in the order of the ranks, so that all ranks get the same bits. Sums of f16
// and bf16 are taken in f32 and rounded once. The result is fresh.
at::Tensor ReduceInRankOrder(const std::vector<at::Tensor>& terms, Reduction reduction);

}  // namespace autosp::runtime
