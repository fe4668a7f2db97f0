#pragma once

#include <autosp/runtime/communicator.h>
#include <autosp/support/status.h>

#include <ATen/core/Tensor.h>
#include <c10/core/Scalar.h>

#include <cstdint>

namespace autosp::runtime {

// A tensor dim that is the ordered product major x length x minor and whose middle factor is cut over the P ranks:
// rank r holds its block r of L = ceildiv(length, P). The dim's size is major * length * minor where it is whole and
// major * L * minor where it is local. When P does not divide length, the tail of the last blocks is padding.
struct ShardedDim {
  std::int64_t dim = 0;
  std::int64_t major = 1;
  std::int64_t length = 0;
  std::int64_t minor = 1;
};

std::int64_t CeilDiv(std::int64_t a, std::int64_t b);

// Each function comes with its adjoint for the objective "sum of the ranks' losses": with T the map from all ranks'
// operands to all ranks' results, F is this rank's part of T and FBackward this rank's part of the transpose of T.
// Every result is fresh and contiguous.

// Whole -> local. The tail repeats the last true element, so that padding is as finite as the data is.
Expected<at::Tensor> ShardSlice(const at::Tensor& x, const ShardedDim& d, Communicator& group);
// Local -> whole; zero outside this rank's block, the tail added to the last true element. No communication.
Expected<at::Tensor> ShardSliceBackward(const at::Tensor& g, const ShardedDim& d, Communicator& group);

// Local -> whole, without the padding.
Expected<at::Tensor> AllGather(const at::Tensor& x, const ShardedDim& d, Communicator& group);
// Whole -> local: the sum over ranks of this rank's block, zero in the tail.
Expected<at::Tensor> AllGatherBackward(const at::Tensor& g, const ShardedDim& d, Communicator& group);

// Whole terms -> local block of their reduction. The tail repeats the last true element: equal to all_reduce, then
// ShardSlice.
Expected<at::Tensor> ReduceScatter(const at::Tensor& x, Reduction reduction, const ShardedDim& d, Communicator& group);
// Of the sum. Local -> whole, everyone's tail added to the last true element.
Expected<at::Tensor> ReduceScatterBackward(const at::Tensor& g, const ShardedDim& d, Communicator& group);

// Local in `from` and whole in `to` -> whole in `from` and local in `to`, in one exchange: equal to AllGather(from),
// then ShardSlice(to). Both may be factors of the same tensor dim.
Expected<at::Tensor> AllToAll(const at::Tensor& x, const ShardedDim& from, const ShardedDim& to, Communicator& group);
Expected<at::Tensor> AllToAllBackward(const at::Tensor& g, const ShardedDim& from, const ShardedDim& to,
                                      Communicator& group);

// `value` in this rank's padding, x elsewhere. Its adjoint is itself with value 0.
Expected<at::Tensor> MaskPadding(const at::Tensor& x, const ShardedDim& d, const c10::Scalar& value,
                                 Communicator& group);

}  // namespace autosp::runtime
