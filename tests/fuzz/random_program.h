#pragma once

#include <autosp/interp/random_inputs.h>
#include <autosp/ir/graph.h>
#include <autosp/pass/pass_options.h>
#include <autosp/sharding/op_rules.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace autosp::test {

// A training-like program and how it is to be run: what one seed makes.
struct Program {
  Graph graph;  // Form captured; hints hold the sizes of the first run.
  int ranks = 2;
  std::vector<std::map<std::string, std::int64_t>> runs;  // The sizes of each run, by symbol.
  PassOptions options;
  bool lowered = false;  // Whether the ops of the framework are run too, not the abstract collectives alone.
  std::uint64_t seed = 0;
  // The text form, with the ranks, sizes and options in a comment before it.
  std::string Text() const;
};

// The same seed gives the same program. Graphs make sense: tagged ids or features go through embeddings, linear layers,
// attention in its forms, norms and residuals, mixed with single operations over any dim of any value; a loss; sizes of
// which some are equal by accident. Operations without a row in `rules` are seldom drawn.
Program RandomProgram(std::uint64_t seed, const RuleTable& rules);

// Values for the inputs of such a program. The name of an input says what it holds: "ids" and "labels" are below the
// size of the table that reads them, labels hold -100 in places, a "mask" hides no first position, "index7" is below 7.
Expected<SpmdInputs> MakeProgramInputs(const Graph& graph, const std::map<std::string, std::int64_t>& sizes,
                                       std::uint64_t seed);

}  // namespace autosp::test
