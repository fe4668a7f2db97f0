#pragma once

#include <autosp/ir/dim.h>
#include <autosp/ir/layout.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace autosp {

// X(enumerator, text, torch name, bytes per element)
#define AUTOSP_DTYPES(X)                   \
  X(kBool, "bool", "bool", 1)              \
  X(kU8, "u8", "uint8", 1)                 \
  X(kI8, "i8", "int8", 1)                  \
  X(kI16, "i16", "int16", 2)               \
  X(kI32, "i32", "int32", 4)               \
  X(kI64, "i64", "int64", 8)               \
  X(kF16, "f16", "float16", 2)             \
  X(kBF16, "bf16", "bfloat16", 2)          \
  X(kF32, "f32", "float32", 4)             \
  X(kF64, "f64", "float64", 8)             \
  X(kC64, "c64", "complex64", 8)           \
  X(kC128, "c128", "complex128", 16)       \
  X(kF8E4M3, "f8e4m3", "float8_e4m3fn", 1) \
  X(kF8E5M2, "f8e5m2", "float8_e5m2", 1)

enum class DType : std::uint8_t {
#define X(name, text, torch, bytes) name,
  AUTOSP_DTYPES(X)
#undef X
};

const char* ToString(DType dtype);                               // "f32"
const char* TorchName(DType dtype);                              // "float32"
std::optional<DType> DTypeFromString(std::string_view text);     // from "f32"
std::optional<DType> DTypeFromTorchName(std::string_view text);  // from "float32"
int ByteSize(DType dtype);
bool IsFloating(DType dtype);  // float and complex: may carry a gradient

// The type of a value.
//   kTensor  dtype, shape, device, requires_grad, layout      f32[2, s0@sp, 64]
//   kInt     a symbolic integer; its value is the Dim `number`  int(s0*2)
//   kFloat / kBool  a scalar known only at run time           float / boolean
//   kTuple   several results; taken apart by builtin.getitem  (f32[2], i64[2])
//   kNone    no value                                         none
//   kOther   something that no pass touches                   opaque
struct Type {
  enum class Kind : std::uint8_t { kTensor, kInt, kFloat, kBool, kTuple, kNone, kOther };

  Kind kind = Kind::kNone;
  DType dtype = DType::kF32;
  std::vector<Dim> shape;
  std::string device = "cpu";  // "cpu", "cuda:0", "meta"; printed only when it is not "cpu"
  bool requires_grad = false;  // printed as a trailing " grad"
  Layout layout;               // of the axis the graph is partitioned over; tensors only
  Dim number;                  // kInt
  std::vector<Type> elements;  // kTuple

  static Type Tensor(DType dtype, std::vector<Dim> shape, bool requires_grad = false);
  static Type Int(Dim number);
  static Type Tuple(std::vector<Type> elements);
  static Type Of(Kind kind);

  bool is_tensor() const { return kind == Kind::kTensor; }
  int rank() const { return static_cast<int>(shape.size()); }
  bool operator==(const Type& other) const;
};

// The tensors of a value: the value itself, or the elements of a tuple that are tensors, in order.
std::vector<Type*> TensorsOf(Type& type);
std::vector<const Type*> TensorsOf(const Type& type);
// Whether the value, or an element of it, requires a gradient.
bool RequiresGrad(const Type& type);

}  // namespace autosp
