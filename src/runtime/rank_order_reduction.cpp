#include "rank_order_reduction.h"

#include <ATen/ops/maximum.h>
#include <ATen/ops/minimum.h>

namespace autosp::runtime {

at::Tensor ReduceInRankOrder(const std::vector<at::Tensor>& terms, Reduction reduction) {
  const at::ScalarType dtype = terms.front().scalar_type();
  const bool narrow = dtype == at::kHalf || dtype == at::kBFloat16;
  at::Tensor total = terms.front().to(narrow ? at::kFloat : dtype, /*non_blocking=*/false, /*copy=*/true);
  for (std::size_t q = 1; q < terms.size(); ++q) {
    switch (reduction) {
      case Reduction::kSum:
        total.add_(terms[q]);
        break;
      case Reduction::kMax:
        total = at::maximum(total, terms[q]);
        break;
      case Reduction::kMin:
        total = at::minimum(total, terms[q]);
        break;
    }
  }
  return total.to(dtype);
}

}  // namespace autosp::runtime
