#pragma once

#include <autosp/interp/spmd_interpreter.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>

namespace autosp {

struct RandomInputOptions {
  std::uint64_t seed = 0;
  std::map<std::string, std::int64_t> sizes = {};  // By symbol; missing ones come from the graph's hints.
  // By input name: integers in [first, second). Without an entry, indices of an embedding are taken below its rows,
  // targets of a cross entropy below its classes, and other integers are 0 or 1.
  std::map<std::string, std::pair<std::int64_t, std::int64_t>> int_ranges = {};
};

// One value per input, from the input types alone: the same seed gives the same values. Floats are normal with
// deviation 1/2; those without dims (norm epsilons and the like) are uniform in [0.1, 1.1).
Expected<SpmdInputs> MakeRandomInputs(const Graph& graph, const RandomInputOptions& options = {});

// A copy in which every floating dtype, in types and in dtype constants, is `dtype`: f32 graphs checked in f64.
Graph WithFloatingDtype(const Graph& graph, DType dtype);

}  // namespace autosp
