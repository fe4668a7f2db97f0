#include <autosp/runtime/call_signature.h>

#include <autosp/runtime/communicator.h>

#include <algorithm>
#include <type_traits>

namespace autosp::runtime {

// It is sent and compared as bytes.
static_assert(std::has_unique_object_representations_v<CallSignature>);

const char* ToString(CollectiveOp op) {
  switch (op) {
    case CollectiveOp::kAllToAll:
      return "all_to_all";
    case CollectiveOp::kAllGather:
      return "all_gather";
    case CollectiveOp::kReduceScatter:
      return "reduce_scatter";
    case CollectiveOp::kAllReduce:
      return "all_reduce";
  }
  return "unknown";
}

CallSignature MakeCallSignature(CollectiveOp op, const at::Tensor& x, Reduction reduction) {
  CallSignature call;
  call.op = op;
  call.reduction = reduction;
  call.dtype = static_cast<std::int8_t>(x.scalar_type());
  call.dims = static_cast<std::int32_t>(x.dim());
  for (std::size_t dim = 0; dim < x.sizes().size(); ++dim) {
    if (dim < CallSignature::kSizes) {
      call.sizes[dim] = x.sizes()[dim];
    } else {
      call.sizes.back() *= x.sizes()[dim];
    }
  }
  return call;
}

std::string ToString(const CallSignature& call) {
  std::string text =
      std::string(ToString(call.op)) + "(" + c10::toString(static_cast<at::ScalarType>(call.dtype)) + "[";
  const auto shown = std::min<std::size_t>(static_cast<std::size_t>(call.dims), CallSignature::kSizes);
  for (std::size_t dim = 0; dim < shown; ++dim) {
    text += (dim == 0 ? "" : ", ") + std::to_string(call.sizes[dim]);
  }
  text += "]";
  const bool reduces = call.op == CollectiveOp::kReduceScatter || call.op == CollectiveOp::kAllReduce;
  return text + (reduces ? std::string(", ") + ToString(call.reduction) : "") + ")";
}

RanksDisagree::RanksDisagree(std::int64_t rank, const CallSignature& call, std::int64_t other_rank,
                             const CallSignature& other)
    : std::runtime_error("the ranks make different calls: rank " + std::to_string(rank) + " " + ToString(call) +
                         ", rank " + std::to_string(other_rank) + " " + ToString(other)) {}

}  // namespace autosp::runtime
