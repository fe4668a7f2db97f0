#include "torch_constants.h"

#include <c10/core/Layout.h>
#include <c10/core/MemoryFormat.h>

#include <array>
#include <utility>

namespace autosp::frontend {
namespace {

constexpr std::array<std::pair<DType, c10::ScalarType>, 14> kDtypes = {{
    {DType::kBool, c10::ScalarType::Bool},
    {DType::kU8, c10::ScalarType::Byte},
    {DType::kI8, c10::ScalarType::Char},
    {DType::kI16, c10::ScalarType::Short},
    {DType::kI32, c10::ScalarType::Int},
    {DType::kI64, c10::ScalarType::Long},
    {DType::kF16, c10::ScalarType::Half},
    {DType::kBF16, c10::ScalarType::BFloat16},
    {DType::kF32, c10::ScalarType::Float},
    {DType::kF64, c10::ScalarType::Double},
    {DType::kC64, c10::ScalarType::ComplexFloat},
    {DType::kC128, c10::ScalarType::ComplexDouble},
    {DType::kF8E4M3, c10::ScalarType::Float8_e4m3fn},
    {DType::kF8E5M2, c10::ScalarType::Float8_e5m2},
}};

constexpr std::array<std::pair<std::string_view, c10::MemoryFormat>, 4> kMemoryFormats = {{
    {"contiguous", c10::MemoryFormat::Contiguous},
    {"preserve", c10::MemoryFormat::Preserve},
    {"channels_last", c10::MemoryFormat::ChannelsLast},
    {"channels_last_3d", c10::MemoryFormat::ChannelsLast3d},
}};

}  // namespace

std::optional<DType> FromScalarType(c10::ScalarType type) {
  for (const auto& [dtype, scalar] : kDtypes) {
    if (scalar == type) return dtype;
  }
  return std::nullopt;
}

c10::ScalarType ToScalarType(DType dtype) {
  for (const auto& [ours, scalar] : kDtypes) {
    if (ours == dtype) return scalar;
  }
  return c10::ScalarType::Undefined;
}

std::optional<std::string> LayoutName(std::int64_t number) {
  if (number == static_cast<std::int64_t>(c10::Layout::Strided)) return "strided";
  return std::nullopt;
}

std::optional<std::int64_t> LayoutNumber(std::string_view name) {
  if (name == "strided") return static_cast<std::int64_t>(c10::Layout::Strided);
  return std::nullopt;
}

std::optional<std::string> MemoryFormatName(std::int64_t number) {
  for (const auto& [name, format] : kMemoryFormats) {
    if (static_cast<std::int64_t>(format) == number) return std::string(name);
  }
  return std::nullopt;
}

std::optional<std::int64_t> MemoryFormatNumber(std::string_view name) {
  for (const auto& [known, format] : kMemoryFormats) {
    if (known == name) return static_cast<std::int64_t>(format);
  }
  return std::nullopt;
}

}  // namespace autosp::frontend
