#pragma once

#include <autosp/ir/type.h>

#include <c10/core/ScalarType.h>

#include <string>

namespace autosp::interp {

c10::ScalarType ToScalarType(DType dtype);
// The name the text form uses, or torch's own for dtypes that the IR does not have.
std::string ScalarTypeName(c10::ScalarType type);

}  // namespace autosp::interp
