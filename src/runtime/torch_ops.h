#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/Scalar.h>
#include <c10/core/SymInt.h>

#include <cstdint>
#include <string>

namespace autosp::runtime {

// The C++ types of the ops' schemas. The dispatcher compares them with `typed<>()` exactly, so each stands once.
// An op and its adjoint share one type.
using ShardedDimOp = at::Tensor(const at::Tensor&, std::int64_t, c10::SymInt, c10::SymInt, c10::SymInt, std::string);
using AllToAllOp = at::Tensor(const at::Tensor&, std::int64_t, c10::SymInt, c10::SymInt, c10::SymInt, std::int64_t,
                              c10::SymInt, c10::SymInt, c10::SymInt, std::string);
using AllReduceOp = at::Tensor(const at::Tensor&, std::string, std::string);
using ReduceScatterOp = at::Tensor(const at::Tensor&, std::string, std::int64_t, c10::SymInt, c10::SymInt, c10::SymInt,
                                   std::string);
using MaskPaddingOp = at::Tensor(const at::Tensor&, std::int64_t, c10::SymInt, c10::SymInt, c10::SymInt,
                                 const c10::Scalar&, std::string);

}  // namespace autosp::runtime
