#pragma once

#include <autosp/interp/spmd_interpreter.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace autosp::interp {

// The value of every symbol that the inputs fix: integer inputs and tensor dims that are a symbol or a multiple of
// one. Refuses (kExecution) unknown and missing inputs and values that contradict their types, all at once. Integer
// inputs that are not given but follow from the others are added to `inputs`.
Expected<std::map<std::string, std::int64_t>> BindSymbols(const Graph& graph, SpmdInputs& inputs);

// Why `value` is not of `type` (ranks, sizes, numbers; symbols without a value fit anything), or nothing.
std::optional<std::string> Mismatch(const Type& type, const c10::IValue& value,
                                    const std::map<std::string, std::int64_t>& symbols);

}  // namespace autosp::interp
