#include "autosp_pipeline.h"

#include <autosp/ir/hash.h>
#include <autosp/pass/problem.h>
#include <autosp/pass/suggest.h>
#include <autosp/sharding/op_rules.h>

#include <fmt/format.h>

#include <algorithm>

namespace autosp {

#define AUTOSP_PASS(class_name, name, form_in, form_out, summary) std::unique_ptr<Pass> Make##class_name();
#include "passes.def"
#undef AUTOSP_PASS

namespace {

constexpr const char* kAxis = "sp";

// The size of the mesh axis "sp" and the option sequence_parallel_size are two spellings of P: fills in the one that is
// missing, refuses two that differ.
Status AgreeOnRanks(Graph& graph, PassOptions& options) {
  std::vector<MeshAxis>& mesh = graph.mesh();
  const auto axis = std::find_if(mesh.begin(), mesh.end(), [](const MeshAxis& a) { return a.name == kAxis; });
  if (options.sequence_parallel_size < 1) {
    return Diagnostic{
        DiagnosticCode::kBadOption,
        fmt::format("sequence_parallel_size is {}, it must be at least 1", options.sequence_parallel_size),
        {},
        "",
        {},
        ""};
  }
  if (axis == mesh.end()) {
    if (options.sequence_parallel_size > 1) mesh.push_back({kAxis, options.sequence_parallel_size});
  } else if (options.sequence_parallel_size == 1) {
    options.sequence_parallel_size = axis->size;
  } else if (axis->size != options.sequence_parallel_size) {
    return MakeProblem(DiagnosticCode::kBadOption,
                       fmt::format("sequence_parallel_size is {}, but the mesh axis \"{}\" of @{} has {} ranks",
                                   options.sequence_parallel_size, kAxis, graph.name(), axis->size),
                       "make both equal, or leave sequence_parallel_size out");
  }
  return Status::Ok();
}

Expected<RuleTable> MakeRules(const CompileOptions& options) {
  AUTOSP_ASSIGN_OR_RETURN(RuleTable rules, RuleTable::BuiltIn());
  if (!options.extra_rules.empty()) {
    AUTOSP_RETURN_IF_ERROR(rules.AddText(options.extra_rules, options.extra_rules_source));
  }
  return rules;
}

std::string Trim(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\n");
  if (first == std::string_view::npos) return "";
  return std::string(text.substr(first, text.find_last_not_of(" \t\n") - first + 1));
}

}  // namespace

const std::vector<PassInfo>& AllPasses() {
  static const std::vector<PassInfo> kPasses = {
#define AUTOSP_PASS(class_name, name, form_in, form_out, summary) \
  {name, Form::form_in, Form::form_out, summary, &Make##class_name},
#include "passes.def"
#undef AUTOSP_PASS
  };
  return kPasses;
}

Expected<std::vector<std::unique_ptr<Pass>>> MakePipeline(std::string_view pipeline) {
  const std::vector<PassInfo>& all = AllPasses();
  std::vector<std::unique_ptr<Pass>> passes;
  if (pipeline == "autosp" || pipeline == "autosp-no-lower") {
    for (const PassInfo& info : all) {
      if (info.form_in == Form::kJoint) continue;
      if (pipeline == "autosp-no-lower" && info.form_out == Form::kLowered) continue;
      passes.push_back(info.make());
    }
    return passes;
  }
  std::vector<std::string> names;
  for (const PassInfo& info : all) names.emplace_back(info.name);
  Status status;
  for (std::size_t begin = 0; begin <= pipeline.size();) {
    const std::size_t end = std::min(pipeline.find(',', begin), pipeline.size());
    std::string name = Trim(pipeline.substr(begin, end - begin));
    begin = end + 1;
    if (name.empty()) continue;
    std::replace(name.begin(), name.end(), '_', '-');
    const auto info = std::find_if(all.begin(), all.end(), [&](const PassInfo& each) { return each.name == name; });
    if (info != all.end()) {
      passes.push_back(info->make());
    } else {
      status.Add(MakeProblem(DiagnosticCode::kUnknownPass,
                             fmt::format("no pass is named \"{}\"{}", name, DidYouMean(name, names))));
    }
  }
  if (!status.ok()) return status;
  return passes;
}

Expected<CompileResult> compile(Graph& graph, const CompileOptions& options) {
  AUTOSP_ASSIGN_OR_RETURN(const RuleTable rules, MakeRules(options));
  AUTOSP_ASSIGN_OR_RETURN(auto passes, MakePipeline(options.pipeline));
  PassContext context{.options = options.pass, .rules = &rules, .remarks = {}, .whole = options.whole};
  AUTOSP_RETURN_IF_ERROR(AgreeOnRanks(graph, context.options));

  PassManager manager(std::move(passes), options.manager);
  manager.set_observer(options.observer);
  AUTOSP_RETURN_IF_ERROR(manager.Run(graph, context));

  CompileResult result;
  result.remarks = std::move(context.remarks);
  result.timings = manager.timings();
  result.plan_hash = HashText(graph);
  result.whole = std::move(context.whole);
  result.partitioned = graph.form() == Form::kPartitioned || graph.form() == Form::kLowered;
  return result;
}

}  // namespace autosp
