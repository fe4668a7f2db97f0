#include "bridge.h"
#include "status_conversion.h"

#include <autosp/ir/printer.h>
#include <autosp/pass/pass_options.h>
#include <autosp/sharding/op_rules.h>

#include <autosp_pipeline.h>

#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

namespace autosp::bindings {

namespace {

Diagnostic BadOption(std::string message) {
  Diagnostic diagnostic;
  diagnostic.code = DiagnosticCode::kBadOption;
  diagnostic.message = std::move(message);
  return diagnostic;
}

// Takes options["name"] out of `options` into `value`; a value of another type is a diagnostic.
template <typename T>
void TakeOption(py::dict& options, const char* name, T& value, Status& problems) {
  if (!options.contains(name)) return;
  const py::object given = options[name];
  options.attr("pop")(name);
  if (given.is_none()) return;
  try {
    value = py::cast<T>(given);
  } catch (const py::cast_error&) {
    const std::string text = py::repr(given);
    problems.Add(BadOption("option \"" + std::string(name) + "\" is " + text + ", which is of the wrong type"));
  }
}

CompileOptions ReadOptions(const std::string& pipeline, py::dict options, const FxGraph& graph, py::object& observer) {
  CompileOptions result;
  Status problems;
  result.pipeline = pipeline;
  result.pass.sequence_parallel_size = graph.graph.axis_size(graph.axis);
  TakeOption(options, "verify", result.manager.verify_each, problems);
  TakeOption(options, "reproducer_dir", result.manager.reproducer_dir, problems);
  TakeOption(options, "disabled", result.manager.disabled, problems);
  TakeOption(options, "stop_after", result.manager.stop_after, problems);
  TakeOption(options, "rules", result.extra_rules, problems);
  TakeOption(options, "observer", observer, problems);
  for (const auto& [key, value] : options) {
    if (!value.is_none())
      problems.Append(SetOption(result.pass, std::string(py::str(key)), std::string(py::str(value))));
  }
  RaiseIfError(problems);
  return result;
}

// Calls a Python observer(pass_name, changed, text_getter). The passes know no exceptions: the first one that the
// observer raises is kept until they are done, and the observer is not called again.
class PythonObserver {
 public:
  explicit PythonObserver(py::object function) : function_(std::move(function)) {}

  void operator()(const Pass& pass, const Graph& graph, bool changed) {
    if (function_.is_none() || error_) return;
    const auto current = std::make_shared<const Graph*>(&graph);
    const py::cpp_function text(
        [current](bool locations) {
          if (*current == nullptr) throw std::runtime_error("the text of a graph must be read while its observer runs");
          return Print(**current, {locations});
        },
        py::arg("locations") = true);
    try {
      function_(pass.name(), changed, text);
    } catch (const py::error_already_set&) {
      error_ = std::current_exception();
    }
    *current = nullptr;
  }

  void RethrowIfRaised() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  py::object function_;
  std::exception_ptr error_;
};

py::dict ToDict(const CompileResult& result) {
  py::list remarks, timings;
  for (const Remark& remark : result.remarks) {
    py::dict row;
    row["pass"] = remark.pass;
    row["value"] = remark.value;
    row["text"] = remark.text;
    row["file"] = remark.location.file;
    row["line"] = remark.location.line;
    row["function"] = remark.location.function;
    row["warning"] = remark.warning;
    remarks.append(row);
  }
  for (const PassTiming& timing : result.timings) {
    py::dict row;
    row["pass"] = timing.pass;
    row["seconds"] = timing.seconds;
    row["verify_seconds"] = timing.verify_seconds;
    row["changed"] = timing.changed;
    row["nodes"] = timing.nodes;
    timings.append(row);
  }
  py::dict row;
  row["remarks"] = remarks;
  row["timings"] = timings;
  row["plan_hash"] = result.plan_hash;
  row["partitioned"] = result.partitioned;
  return row;
}

py::dict RunPasses(FxGraph& graph, const std::string& pipeline, const py::dict& options) {
  py::object function = py::none();
  CompileOptions compile_options = ReadOptions(pipeline, py::dict(options.attr("copy")()), graph, function);
  PythonObserver observer(function);
  compile_options.observer = [&](const Pass& pass, const Graph& current, bool changed) {
    observer(pass, current, changed);
  };
  const Expected<CompileResult> result = compile(graph.graph, compile_options);
  observer.RethrowIfRaised();
  if (!result.ok()) Raise(result.status());
  return ToDict(result.value());
}

py::list ListPasses() {
  py::list rows;
  for (const PassInfo& info : AllPasses()) {
    py::dict row;
    row["name"] = info.name;
    row["form_in"] = ToString(info.form_in);
    row["form_out"] = ToString(info.form_out);
    row["summary"] = info.summary;
    rows.append(row);
  }
  return rows;
}

py::list ListOptions() {
  py::list rows;
  for (const PassOptionInfo& info : AllPassOptions()) {
    py::dict row;
    row["name"] = info.name;
    row["default"] = info.default_value;
    row["allowed"] = info.allowed;
    row["effect"] = info.effect;
    rows.append(row);
  }
  return rows;
}

py::list ListRules() {
  const RuleTable table = ValueOrRaise(RuleTable::BuiltIn());
  py::list rows;
  for (const auto& [op, rule] : table.rules()) {
    py::dict row;
    row["op"] = op;
    row["parameters"] = rule.parameters;
    row["rule"] = rule.text;
    rows.append(row);
  }
  return rows;
}

}  // namespace

void BindPasses(py::module_& module) {
  module.def("run_passes", &RunPasses, py::arg("graph"), py::arg("pipeline") = "autosp",
             py::arg("options") = py::dict(),
             "Rewrites the graph in place; gives {remarks, timings, plan_hash, partitioned}. On an error the graph is "
             "left as it was before the failing pass.");
  module.def("list_passes", &ListPasses, "Every pass: name, form_in, form_out, summary.");
  module.def("list_options", &ListOptions, "Every option of the passes: name, default, allowed, effect.");
  module.def("list_rules", &ListRules, "Every row of the sharding rule table: op, parameters, rule.");
}

}  // namespace autosp::bindings
