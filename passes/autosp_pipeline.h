#pragma once

#include <autosp/pass/pass.h>
#include <autosp/pass/pass_manager.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace autosp {

// One row of passes.def.
struct PassInfo {
  const char* name;  // "propagate-shardings"
  Form form_in, form_out;
  const char* summary;
  std::unique_ptr<Pass> (*make)();
};

const std::vector<PassInfo>& AllPasses();  // in the order of passes.def

// "autosp" is the whole pipeline, "autosp-no-lower" the same without its last pass; otherwise a comma-separated list of
// pass names, dashes or underscores. kUnknownPass lists every unknown name with the nearest known one.
Expected<std::vector<std::unique_ptr<Pass>>> MakePipeline(std::string_view pipeline);

struct CompileOptions {
  PassOptions pass;
  PassManagerOptions manager;
  std::string pipeline = "autosp";
  // Text of user rules, one row per line: name(parameters): rule. See docs/sharding-rules.md.
  std::string extra_rules;
  std::string extra_rules_source = "<rules>";  // Names that text in diagnostics.
  PassObserver observer;                       // Called after each pass; empty: not called.
  // For a pipeline that starts with a partitioned graph: what CompileResult::whole was when it was made.
  std::shared_ptr<const Graph> whole = nullptr;
};

struct CompileResult {
  std::vector<Remark> remarks;
  std::vector<PassTiming> timings;
  std::string plan_hash;  // of the resulting graph; equal on all ranks
  bool partitioned = false;
  std::shared_ptr<const Graph> whole;  // The program before it was cut, in form Normalized; null when it was not.
};

// Rewrites `graph` in place, on the ranks of its mesh axis "sp" (made when missing, with
// options.pass.sequence_parallel_size ranks). On error the graph is left as it was before the failing pass.
Expected<CompileResult> compile(Graph& graph, const CompileOptions& options);

}  // namespace autosp
