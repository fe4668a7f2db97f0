#pragma once

#include "autosp_pipeline.h"

#include <autosp/sharding/op_rules.h>

#include <string>

namespace autosp {

std::string ListPasses();
std::string ListRules(const RuleTable& rules);
std::string TimingTable(const std::vector<PassTiming>& timings);

// The type of value `name` ("%v" or "v") in the resulting graph and every remark about it; "all": every remark.
// kBadOption when neither the graph nor a remark knows the name.
Expected<std::string> Explain(const Graph& graph, const CompileResult& result, const std::string& name);

// One JSON object, for --json.
std::string ResultJson(const Graph& graph, const CompileResult& result);
std::string DiagnosticsJson(const Status& status);

}  // namespace autosp
