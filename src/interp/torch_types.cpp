#include "torch_types.h"

namespace autosp::interp {

c10::ScalarType ToScalarType(DType dtype) {
  switch (dtype) {
    case DType::kBool:
      return c10::kBool;
    case DType::kU8:
      return c10::kByte;
    case DType::kI8:
      return c10::kChar;
    case DType::kI16:
      return c10::kShort;
    case DType::kI32:
      return c10::kInt;
    case DType::kI64:
      return c10::kLong;
    case DType::kF16:
      return c10::kHalf;
    case DType::kBF16:
      return c10::kBFloat16;
    case DType::kF32:
      return c10::kFloat;
    case DType::kF64:
      return c10::kDouble;
    case DType::kC64:
      return c10::kComplexFloat;
    case DType::kC128:
      return c10::kComplexDouble;
    case DType::kF8E4M3:
      return c10::kFloat8_e4m3fn;
    case DType::kF8E5M2:
      return c10::kFloat8_e5m2;
  }
  return c10::ScalarType::Undefined;
}

std::string ScalarTypeName(c10::ScalarType type) {
#define X(name, text, torch, bytes) \
  if (type == ToScalarType(DType::name)) return text;
  AUTOSP_DTYPES(X)
#undef X
  return c10::toString(type);
}

}  // namespace autosp::interp
