#include "bridge.h"
#include "status_conversion.h"

#include <autosp/ir/hash.h>
#include <autosp/ir/parser.h>
#include <autosp/ir/printer.h>
#include <autosp/ir/verifier.h>
#include <autosp/support/build_info.h>

#include <pybind11/stl.h>

#include <string>
#include <utility>
#include <vector>

namespace autosp::bindings {

namespace {

FxGraph ParseGraph(const std::string& text, const std::string& source_name, const std::string& axis) {
  FxGraph result;
  result.graph = ValueOrRaise(Parse(text, source_name));
  result.axis = axis;
  return result;
}

py::dict BuildInfo() {
  py::dict features;
  for (const BuildFeature& feature : BuildFeatures()) {
    py::dict row;
    row["built"] = feature.built;
    row["detail"] = feature.detail;
    features[py::str(feature.name)] = row;
  }
  py::dict info;
  info["version"] = Version();
  info["features"] = features;
  return info;
}

py::list Inputs(const FxGraph& graph) {
  py::list rows;
  for (const Node* input : graph.graph.inputs()) {
    py::dict row;
    row["name"] = input->name;
    row["seq_dim"] = input->seq_dim;
    row["is_tensor"] = input->type.is_tensor();
    row["type"] = Print(input->type);
    rows.append(row);
  }
  return rows;
}

std::vector<std::pair<std::string, std::int64_t>> Divisible(const FxGraph& graph) {
  std::vector<std::pair<std::string, std::int64_t>> facts;
  for (const auto& [dim, divisor] : graph.graph.divisible()) facts.emplace_back(dim.ToString(), divisor);
  return facts;
}

// Position of the input whose value is the bare symbol `dim`, -1 when there is none.
int IntInputOf(const FxGraph& graph, const Dim& dim) {
  const std::vector<Node*> inputs = graph.graph.inputs();
  for (std::size_t i = 0; dim.symbol() && i < inputs.size(); ++i) {
    if (inputs[i]->type.kind == Type::Kind::kInt && inputs[i]->type.number == dim) return static_cast<int>(i);
  }
  return -1;
}

std::vector<std::pair<int, std::int64_t>> DivisibleChecks(const FxGraph& graph) {
  std::vector<std::pair<int, std::int64_t>> checks;
  for (const auto& [dim, divisor] : graph.graph.divisible()) {
    const int input = IntInputOf(graph, dim);
    if (input >= 0) checks.emplace_back(input, divisor);
  }
  return checks;
}

std::vector<std::pair<std::string, std::int64_t>> DivisibleUnchecked(const FxGraph& graph) {
  std::vector<std::pair<std::string, std::int64_t>> facts;
  for (const auto& [dim, divisor] : graph.graph.divisible()) {
    const auto constant = dim.constant();
    const bool known = constant && *constant % divisor == 0;
    if (!known && IntInputOf(graph, dim) < 0) facts.emplace_back(dim.ToString(), divisor);
  }
  return facts;
}

py::list NodesSummary(const FxGraph& graph) {
  py::list rows;
  for (const auto& node : graph.graph.nodes()) {
    py::dict row;
    row["name"] = node->name;
    row["kind"] = node->is_input() ? "input" : node->is_output() ? "output" : "call";
    row["op"] = node->op;
    row["type"] = Print(node->type);
    row["requires_grad"] = node->type.requires_grad;
    row["origin"] = node->origin;
    row["file"] = node->provenance.location.file;
    row["line"] = node->provenance.location.line;
    row["function"] = node->provenance.location.function;
    row["module"] = node->provenance.module_path;
    rows.append(row);
  }
  return rows;
}

void BindGraph(py::module_& module) {
  py::class_<FxGraph>(module, "Graph", "A graph in AutoSP's own form, with the FX objects that it was read from.")
      .def_static("parse", &ParseGraph, py::arg("text"), py::arg("source_name") = "<text>", py::arg("axis") = "sp")
      .def("export_fx", &ExportFx, py::arg("groups") = std::map<std::string, std::string>(),
           "A new torch.fx.GraphModule; `groups` maps a mesh axis to the name of its process group.")
      .def(
          "print", [](const FxGraph& graph, bool locations) { return Print(graph.graph, {locations}); },
          py::arg("locations") = true)
      .def("hash", [](const FxGraph& graph) { return HashText(graph.graph); })
      .def(
          "verify", [](const FxGraph& graph) { RaiseIfError(Verify(graph.graph)); },
          "Raises AutoSPError when the graph breaks a rule of its form.")
      .def("clone", &FxGraph::Clone)
      .def(
          "hints", [](const FxGraph& graph) { return graph.graph.hints(); },
          "The value that the example inputs gave to each symbol.")
      .def("divisible", &Divisible, "Facts (dim, divisor) that every run of the graph must satisfy.")
      .def("divisible_checks", &DivisibleChecks, "Those facts that one int input decides: (input position, divisor).")
      .def("divisible_unchecked", &DivisibleUnchecked, "Those facts that no single int input decides.")
      .def("inputs", &Inputs, "Of every input: name, seq_dim (-1 when not tagged), is_tensor, type.")
      .def("nodes_summary", &NodesSummary)
      .def_property_readonly("form", [](const FxGraph& graph) { return ToString(graph.graph.form()); })
      .def_property_readonly("axis_size", [](const FxGraph& graph) { return graph.graph.axis_size(graph.axis); })
      .def("__len__", [](const FxGraph& graph) { return graph.graph.size(); })
      .def("__str__", [](const FxGraph& graph) { return Print(graph.graph); });
}

}  // namespace

}  // namespace autosp::bindings

PYBIND11_MODULE(_core, module) {
  namespace bindings = autosp::bindings;
  module.doc() = "The compiler passes of AutoSP and the bridge between torch.fx and their graphs.";
  bindings::BindGraph(module);
  bindings::BindPasses(module);
  bindings::BindJoint(module);
  bindings::BindDiagnostics(module);
  module.def("import_fx", &bindings::ImportFx, pybind11::arg("graph_module"), pybind11::arg("axis_size"),
             pybind11::arg("axis") = "sp", "Reads a torch.fx.GraphModule as a Graph.");
  module.def("version", [] { return AUTOSP_VERSION; });
  module.def("build_info", &bindings::BuildInfo,
             "The version, and of every optional part whether it was built and its version or why it is missing.");
}
