#include <autosp/runtime/communicator.h>

#include <ATen/ops/empty.h>
#include <ATen/ops/view_as_real.h>

#include <c10/util/Exception.h>

#include <exception>
#include <string>
#include <utility>

namespace autosp::runtime {
namespace {

// What lies in memory is the values: libraries see neither strides nor the lazy bits of x.conj() and its imaginary
// part.
at::Tensor Materialized(const at::Tensor& x) { return x.resolve_conj().resolve_neg().contiguous(); }

// Moved values are carried as bytes: libraries differ in the dtypes they know, and none has to look inside.
at::Tensor AsBytes(const at::Tensor& x) {
  const at::Tensor flat = x.reshape({-1});
  return x.scalar_type() == at::kByte ? flat : flat.view(at::kByte);
}

// Complex numbers as pairs, truth values as the bytes 0 and 1.
at::Tensor AsReal(const at::Tensor& x) {
  if (x.scalar_type() == at::kBool) return x.view(at::kByte);
  return x.is_complex() ? at::view_as_real(x) : x;
}

Reduction OfReal(const at::Tensor& x, Reduction reduction) {
  return x.scalar_type() == at::kBool && reduction == Reduction::kSum ? Reduction::kMax : reduction;
}

std::vector<std::int64_t> WithLeading(std::int64_t size, at::IntArrayRef rest) {
  std::vector<std::int64_t> shape{size};
  shape.insert(shape.end(), rest.begin(), rest.end());
  return shape;
}

std::string TextOf(const std::exception& error) {
  const auto* c10_error = dynamic_cast<const c10::Error*>(&error);
  return c10_error != nullptr ? c10_error->what_without_backtrace() : error.what();
}

}  // namespace

const char* ToString(Reduction reduction) {
  switch (reduction) {
    case Reduction::kSum:
      return "sum";
    case Reduction::kMax:
      return "max";
    case Reduction::kMin:
      return "min";
  }
  return "unknown";
}

Expected<Reduction> ReductionFromString(std::string_view text) {
  for (const Reduction reduction : {Reduction::kSum, Reduction::kMax, Reduction::kMin}) {
    if (text == ToString(reduction)) return reduction;
  }
  return Diagnostic{.code = DiagnosticCode::kBadOption,
                    .message = "reduce is \"" + std::string(text) + "\", allowed are \"sum\", \"max\" and \"min\"",
                    .location = {},
                    .subject = {},
                    .notes = {},
                    .hint = "use one of the allowed reductions"};
}

template <typename F>
Status Communicator::Guarded(const char* op, const at::Tensor& x, const F& call) const {
  const auto start = std::chrono::steady_clock::now();
  std::string text;
  std::string hint;
  try {
    call();
    return Status::Ok();
  } catch (const RanksDisagree& error) {
    text = error.what();
    hint = "every rank must run the same program on operands of the same sizes";
  } catch (const std::exception& error) {
    text = "the library says: " + TextOf(error);
  }
  const bool late = std::chrono::steady_clock::now() - start >= deadline_;
  return Diagnostic{.code = late ? DiagnosticCode::kRankTimeout : DiagnosticCode::kCollectiveFailed,
                    .message = std::string(op) + (late ? " did not finish" : " failed") + " on group \"" + name_ +
                               "\", rank " + std::to_string(rank_) + " of " + std::to_string(size_) + ", " +
                               std::to_string(x.nbytes()) + " bytes from this rank, deadline " +
                               std::to_string(deadline_.count()) + " ms",
                    .location = {},
                    .subject = {},
                    .notes = {std::move(text)},
                    .hint = std::move(hint)};
}

Status Communicator::CheckLeadingDim(const char* op, const at::Tensor& x) const {
  if (x.dim() > 0 && x.size(0) == size_) return Status::Ok();
  return Diagnostic{.code = DiagnosticCode::kExecution,
                    .message = std::string(op) + " on group \"" + name_ + "\" of " + std::to_string(size_) +
                               " ranks needs one leading entry per rank, got " +
                               (x.dim() > 0 ? std::to_string(x.size(0)) : "a tensor without dims"),
                    .location = {},
                    .subject = {},
                    .notes = {},
                    .hint = "give the operand a leading dim of the group's size"};
}

Expected<at::Tensor> Communicator::AllToAll(const at::Tensor& x) {
  AUTOSP_RETURN_IF_ERROR(CheckLeadingDim("all_to_all", x));
  at::Tensor result;
  AUTOSP_RETURN_IF_ERROR(Guarded("all_to_all", x, [&] {
    at::Tensor sent = Materialized(x);
    result = at::empty(x.sizes(), sent.options());
    at::Tensor source = AsBytes(sent);
    at::Tensor target = AsBytes(result);
    if (size_ == 1) {
      target.copy_(source);
    } else {
      DoAllToAll(MakeCallSignature(CollectiveOp::kAllToAll, x), target, source);
    }
  }));
  return result;
}

Expected<at::Tensor> Communicator::AllGather(const at::Tensor& x) {
  at::Tensor result;
  AUTOSP_RETURN_IF_ERROR(Guarded("all_gather", x, [&] {
    at::Tensor sent = Materialized(x);
    result = at::empty(WithLeading(size_, x.sizes()), sent.options());
    at::Tensor source = AsBytes(sent);
    at::Tensor target = AsBytes(result);
    if (size_ == 1) {
      target.copy_(source);
    } else {
      DoAllGather(MakeCallSignature(CollectiveOp::kAllGather, x), target, source);
    }
  }));
  return result;
}

Expected<at::Tensor> Communicator::ReduceScatter(const at::Tensor& x, Reduction reduction) {
  AUTOSP_RETURN_IF_ERROR(CheckLeadingDim("reduce_scatter", x));
  at::Tensor result;
  AUTOSP_RETURN_IF_ERROR(Guarded("reduce_scatter", x, [&] {
    at::Tensor sent = Materialized(x);
    result = at::empty(x.sizes().slice(1), sent.options());
    at::Tensor source = AsReal(sent).reshape({-1});
    at::Tensor target = AsReal(result).reshape({-1});
    if (size_ == 1) {
      target.copy_(source);
    } else {
      DoReduceScatter(MakeCallSignature(CollectiveOp::kReduceScatter, x, reduction), target, source,
                      OfReal(x, reduction));
    }
  }));
  return result;
}

Expected<at::Tensor> Communicator::AllReduce(const at::Tensor& x, Reduction reduction) {
  at::Tensor result;
  AUTOSP_RETURN_IF_ERROR(Guarded("all_reduce", x, [&] {
    result = x.resolve_conj().resolve_neg().clone(at::MemoryFormat::Contiguous);
    at::Tensor in_out = AsReal(result).reshape({-1});
    if (size_ > 1) {
      DoAllReduce(MakeCallSignature(CollectiveOp::kAllReduce, x, reduction), in_out, OfReal(x, reduction));
    }
  }));
  return result;
}

}  // namespace autosp::runtime
