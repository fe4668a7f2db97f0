#pragma once

#include <autosp/ir/graph.h>

#include <cstdint>
#include <string>

namespace autosp {

// FNV-1a over the printed form without locations: equal graphs give equal hashes on every rank and machine.
std::uint64_t Hash(const Graph& graph);
std::string HashText(const Graph& graph);  // 16 hex digits

// The first line in which the printed forms differ ("<line of a>" / "<line of b>"), or both empty when they are equal.
std::pair<std::string, std::string> FirstDifference(const Graph& a, const Graph& b);

}  // namespace autosp
