#pragma once

#include <autosp/interp/compare.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <autosp_pipeline.h>

#include "random_program.h"

namespace autosp::test {

enum class Outcome : std::uint8_t {
  kEqual,     // Outputs and every gradient are those of the unsharded program.
  kRefused,   // A typed diagnostic that names what the user can change.
  kIllPosed,  // The unsharded program itself fails, or gives a NaN: nothing to compare with.
  kFailed     // A silent difference, a crash, an untyped error, or a diagnostic that confesses a defect (05xx).
};

struct Verdict {
  Outcome outcome = Outcome::kEqual;
  std::string kind;     // "ASP0202" of a refusal; "different", "ASP0502", "exception", "does not run" of a failure.
  std::string text;     // What a reader needs; empty for equal ones.
  int collectives = 0;  // Of the partitioned program, those that move data: all but slices and masks.
  int slices = 0;
};

struct CheckOptions {
  // In f64 a sum of n products differs by about n * 1e-16 when it is taken in another order, and a program has at most
  // a few dozen such sums one after the other, none above 3,000 terms: 1e-10 of the largest element is four orders
  // above what rounding does, and a wrong term is six above that.
  double tolerance = 1e-10;
  std::string extra_rules;  // As CompileOptions has it.
  bool verify = true;       // Whether verify-partitioned runs.
};

struct Partitioned {
  Graph graph;
  std::vector<Layout> layouts;         // How its outputs lie.
  std::shared_ptr<const Graph> whole;  // CompileResult::whole
};
// Passes a copy of the graph through a pipeline.
Expected<Partitioned> PartitionProgram(const Program& program, const std::string& pipeline,
                                       const CheckOptions& options = {});

// Makes sure that the unsharded program runs, with finite results; nothing when it does. Views of memory that lies
// otherwise, which a framework would not have captured, become reshapes.
std::optional<Verdict> Prepare(Program& program);

Program Copy(const Program& program);

Verdict CheckProgram(const Program& program, const CheckOptions& options = {});

// The unsharded program against a given partitioned one, at every size of the program's runs.
Verdict CompareProgram(const Program& program, const Graph& partitioned, const std::vector<Layout>& layouts,
                       const CheckOptions& options = {});

// The smallest program found that still fails with the same kind: outputs are dropped, calls become inputs or give way
// to their operands, ranks and sizes are lowered, as long as it helps.
Program Shrink(const Program& program, const CheckOptions& options = {});

}  // namespace autosp::test
