#pragma once

#include <autosp/ir/graph.h>
#include <autosp/pass/pass_options.h>
#include <autosp/support/status.h>

#include <memory>
#include <string>
#include <vector>

namespace autosp {

class RuleTable;

// One line of the report: a decision and its reason.
struct Remark {
  std::string pass, value, text;
  SourceLocation location;
  bool warning = false;  // The user asked to be told.
};

// What travels with a run of the pipeline.
struct PassContext {
  PassOptions options;
  const RuleTable* rules = nullptr;
  std::vector<Remark> remarks;
  // The graph as it was in form Normalized, before the first pass that speaks of ranks: what the partitioned one must
  // still mean. Kept by the pass manager; null where a pipeline starts later.
  std::shared_ptr<const Graph> whole = nullptr;
};

// A pass takes a graph in form_in() and leaves it in form_out(), setting the form itself; it returns whether it changed
// anything, or why it refuses. Setting the form alone is no change. It holds no state between runs.
class Pass {
 public:
  virtual ~Pass() = default;
  virtual const char* name() const = 0;  // command-line name: dashes
  virtual Form form_in() const = 0;
  virtual Form form_out() const = 0;
  virtual const char* summary() const = 0;  // one line
  virtual Expected<bool> Run(Graph& graph, PassContext& context) const = 0;

  // Overridden by a pass that also takes other forms than form_in(); it leaves those as they are.
  virtual bool Accepts(Form form) const { return form == form_in(); }
  Form FormAfter(Form form) const { return form == form_in() ? form_out() : form; }
};

}  // namespace autosp
