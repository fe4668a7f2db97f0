// autosp-run: runs a graph in text form on simulated ranks, and compares it with its unsharded original.
#include "autosp_run_arguments.h"
#include "autosp_run_report.h"

#include <autosp/ir/parser.h>
#include <autosp/support/build_info.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace autosp {
namespace {

// Rounding grows over training steps: after the first one, losses may differ this much more.
constexpr double kLaterSteps = 1e3;

Expected<Graph> ReadGraph(const std::string& file, std::optional<DType> dtype) {
  std::ifstream stream(file, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  if (!stream.is_open() || stream.bad()) {
    return Diagnostic{DiagnosticCode::kFile, "the file \"" + file + "\" cannot be read", {}, {}, {}, {}};
  }
  AUTOSP_ASSIGN_OR_RETURN(Graph graph, Parse(text, file));
  if (dtype) return WithFloatingDtype(graph, *dtype);
  return graph;
}

double DefaultTolerance(const Graph& graph) {
  double tolerance = 1e-12;
  for (const auto& node : graph.nodes()) {
    if (!node->type.is_tensor()) continue;
    if (node->type.dtype == DType::kF32) tolerance = std::max(tolerance, 1e-5);
    if (node->type.dtype == DType::kF16 || node->type.dtype == DType::kBF16) tolerance = 3e-2;
  }
  return tolerance;
}

// Plain gradient descent on output 0; the losses step by step.
Expected<std::vector<double>> Train(const Graph& graph, int ranks, SpmdInputs inputs, const RunArguments& arguments) {
  bool any_marked = false;
  for (const Node* input : graph.inputs()) any_marked = any_marked || input->type.requires_grad;
  SpmdOptions options;
  options.only_marked_leaves = any_marked;
  std::vector<double> losses;
  for (int step = 0; step < arguments.steps; ++step) {
    AUTOSP_ASSIGN_OR_RETURN(const SpmdResult result, SpmdInterpreter(graph, ranks, options).Run(inputs));
    AUTOSP_ASSIGN_OR_RETURN(const auto gradients, SpmdGradients(result, 0));
    const at::Tensor loss = result.outputs.front().front().toTensor();
    if (loss.numel() != 1) {
      return Diagnostic{DiagnosticCode::kBadOption,
                        "--steps trains on output 0, which has " + std::to_string(loss.numel()) + " elements, not 1",
                        {},
                        {},
                        {},
                        "return the loss first"};
    }
    losses.push_back(loss.detach().item<double>());
    for (const auto& [name, gradient] : gradients) {
      inputs[name] = inputs[name].toTensor().detach().sub(gradient, arguments.learning_rate);
    }
  }
  return losses;
}

Status TrainBoth(const Graph& graph, const std::optional<Graph>& whole, const SpmdInputs& inputs,
                 const RunArguments& arguments, double tolerance, RunReport& report) {
  AUTOSP_ASSIGN_OR_RETURN(const std::vector<double> losses, Train(graph, report.ranks, inputs, arguments));
  for (const double loss : losses) report.steps.push_back({loss, std::nullopt});
  if (!whole) return Status::Ok();
  AUTOSP_ASSIGN_OR_RETURN(const std::vector<double> expected, Train(*whole, 1, inputs, arguments));
  for (std::size_t i = 0; i < losses.size(); ++i) {
    report.steps[i].whole_loss = expected[i];
    const double allowed = tolerance * (i == 0 ? 1 : kLaterSteps) * std::fabs(expected[i]);
    if (!(std::fabs(losses[i] - expected[i]) <= allowed)) report.equal = false;
  }
  return Status::Ok();
}

Expected<RunReport> Run(const RunArguments& arguments) {
  AUTOSP_ASSIGN_OR_RETURN(const Graph graph, ReadGraph(arguments.file, arguments.dtype));
  std::optional<Graph> whole;
  if (!arguments.whole_file.empty()) {
    AUTOSP_ASSIGN_OR_RETURN(whole, ReadGraph(arguments.whole_file, arguments.dtype));
  }
  // The whole graph shows best what its integers index.
  RandomInputOptions input_options = arguments.inputs;
  for (const auto& [name, hint] : graph.hints()) input_options.sizes.emplace(name, hint);
  AUTOSP_ASSIGN_OR_RETURN(const SpmdInputs inputs, MakeRandomInputs(whole ? *whole : graph, input_options));

  RunReport report;
  report.graph = graph.name();
  report.ranks = arguments.ranks.value_or(static_cast<int>(graph.axis_size("sp")));
  AUTOSP_ASSIGN_OR_RETURN(SpmdResult result, SpmdInterpreter(graph, report.ranks).Run(inputs));
  report.symbols = result.symbols;
  report.outputs = std::move(result.outputs);

  CompareOptions compare;
  compare.tolerance = arguments.tolerance.value_or(DefaultTolerance(graph));
  compare.output_layouts = arguments.output_layouts;
  if (whole) {
    AUTOSP_ASSIGN_OR_RETURN(report.comparison, CompareWithWhole(*whole, graph, report.ranks, inputs, compare));
    report.equal = report.comparison->equal();
  }
  if (arguments.steps > 0) {
    AUTOSP_RETURN_IF_ERROR(TrainBoth(graph, whole, inputs, arguments, compare.tolerance, report));
  }
  return report;
}

int Main(const std::vector<std::string>& raw) {
  const Expected<RunArguments> arguments = ParseRunArguments(raw);
  if (!arguments.ok()) {
    std::cerr << arguments.status().ToString() << "\n";
    return 2;
  }
  if (arguments->help) {
    std::cout << RunHelp();
    return 0;
  }
  if (arguments->version) {
    std::cout << VersionText("autosp-run");
    return 0;
  }
  const Expected<RunReport> report = Run(*arguments);
  if (!report.ok()) {
    if (arguments->json) std::cout << ToJson(report.status());
    std::cerr << report.status().ToString() << "\n";
    return 2;
  }
  std::cout << (arguments->json ? ToJson(*report) : ToTables(*report));
  return report->equal ? 0 : 1;
}

}  // namespace
}  // namespace autosp

int main(int argc, char** argv) {
  try {
    return autosp::Main({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::cerr << "autosp-run failed: " << error.what() << "\n";
    return 2;
  }
}
