#pragma once

#include <autosp/ir/graph.h>

#include <cstdint>
#include <random>

namespace autosp::test {

// Numbers that are the same on every machine for one seed.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  // 0 <= result < bound
  std::int64_t Below(std::int64_t bound) {
    return static_cast<std::int64_t>(engine_() % static_cast<std::uint64_t>(bound));
  }
  bool OneIn(std::int64_t n) { return Below(n) == 0; }
  std::uint64_t Bits() { return engine_(); }

 private:
  std::mt19937_64 engine_;
};

// A size over the symbols s0 to s3; `depth` bounds the nesting of calls. Rarely one that overflows.
Dim RandomDim(Random& random, int depth = 2);

// A graph that satisfies the verifier and uses every part of the text form: all forms, types, layouts and kinds of
// arguments, odd names and strings, locations.
Graph RandomGraph(std::uint64_t seed);

}  // namespace autosp::test
