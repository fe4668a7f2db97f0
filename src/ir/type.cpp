#include <autosp/ir/type.h>

#include <algorithm>
#include <utility>

namespace autosp {
namespace {

struct DTypeRow {
  DType dtype;
  const char* text;
  const char* torch;
  int bytes;
};

constexpr DTypeRow kDTypes[] = {
#define X(name, text, torch, bytes) {DType::name, text, torch, bytes},
    AUTOSP_DTYPES(X)
#undef X
};

const DTypeRow& RowOf(DType dtype) { return kDTypes[static_cast<std::size_t>(dtype)]; }

}  // namespace

const char* ToString(DType dtype) { return RowOf(dtype).text; }
const char* TorchName(DType dtype) { return RowOf(dtype).torch; }
int ByteSize(DType dtype) { return RowOf(dtype).bytes; }

std::optional<DType> DTypeFromString(std::string_view text) {
  for (const DTypeRow& row : kDTypes) {
    if (text == row.text) return row.dtype;
  }
  return std::nullopt;
}

std::optional<DType> DTypeFromTorchName(std::string_view text) {
  for (const DTypeRow& row : kDTypes) {
    if (text == row.torch) return row.dtype;
  }
  return std::nullopt;
}

bool IsFloating(DType dtype) {
  switch (dtype) {
    case DType::kF16:
    case DType::kBF16:
    case DType::kF32:
    case DType::kF64:
    case DType::kC64:
    case DType::kC128:
    case DType::kF8E4M3:
    case DType::kF8E5M2:
      return true;
    case DType::kBool:
    case DType::kU8:
    case DType::kI8:
    case DType::kI16:
    case DType::kI32:
    case DType::kI64:
      return false;
  }
  return false;
}

Type Type::Of(Kind kind) {
  Type type;
  type.kind = kind;
  return type;
}

Type Type::Tensor(DType dtype, std::vector<Dim> shape, bool requires_grad) {
  Type type = Of(Kind::kTensor);
  type.dtype = dtype;
  type.shape = std::move(shape);
  type.requires_grad = requires_grad;
  return type;
}

Type Type::Int(Dim number) {
  Type type = Of(Kind::kInt);
  type.number = std::move(number);
  return type;
}

Type Type::Tuple(std::vector<Type> elements) {
  Type type = Of(Kind::kTuple);
  type.elements = std::move(elements);
  return type;
}

bool Type::operator==(const Type& other) const {
  if (kind != other.kind) return false;
  switch (kind) {
    case Kind::kTensor:
      return dtype == other.dtype && shape == other.shape && device == other.device &&
             requires_grad == other.requires_grad && layout == other.layout;
    case Kind::kInt:
      return number == other.number;
    case Kind::kTuple:
      return elements == other.elements;
    case Kind::kFloat:
    case Kind::kBool:
    case Kind::kNone:
    case Kind::kOther:
      return true;
  }
  return true;
}

std::vector<Type*> TensorsOf(Type& type) {
  if (type.is_tensor()) return {&type};
  std::vector<Type*> tensors;
  for (Type& element : type.elements) {
    if (element.is_tensor()) tensors.push_back(&element);
  }
  return tensors;
}

std::vector<const Type*> TensorsOf(const Type& type) {
  const std::vector<Type*> tensors = TensorsOf(const_cast<Type&>(type));
  return {tensors.begin(), tensors.end()};
}

bool RequiresGrad(const Type& type) {
  return type.requires_grad || std::any_of(type.elements.begin(), type.elements.end(), RequiresGrad);
}

}  // namespace autosp
