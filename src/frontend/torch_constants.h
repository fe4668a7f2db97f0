#pragma once

#include <autosp/ir/type.h>

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace autosp::frontend {

std::optional<DType> FromScalarType(c10::ScalarType type);
c10::ScalarType ToScalarType(DType dtype);

// The numbers by which TorchScript names layouts and memory formats; the names are those of docs/ir.md.
std::optional<std::string> LayoutName(std::int64_t number);
std::optional<std::string> MemoryFormatName(std::int64_t number);
std::optional<std::int64_t> LayoutNumber(std::string_view name);
std::optional<std::int64_t> MemoryFormatNumber(std::string_view name);

}  // namespace autosp::frontend
