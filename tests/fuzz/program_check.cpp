#include "program_check.h"

#include <autosp/ir/printer.h>
#include <autosp/ir/verifier.h>

#include <exception>

#include "program_conditioning.h"

namespace autosp::test {
namespace {

std::string CodeOf(const Status& status) { return CodeName(status.diagnostics().front().code); }

bool IsDefect(const Status& status) {
  for (const Diagnostic& diagnostic : status.diagnostics()) {
    const int code = static_cast<int>(diagnostic.code);
    if (code >= 400) return true;  // 04xx: tools and text; 05xx: confessed defects.
  }
  return false;
}

bool HasNan(const SpmdResult& result) {
  for (const c10::IValue& output : result.outputs.front()) {
    if (!output.isTensor() || !output.toTensor().is_floating_point()) continue;
    if (!output.toTensor().isfinite().all().item<bool>()) return true;
  }
  return false;
}

SpmdOptions Spmd() {
  SpmdOptions options;
  options.only_marked_leaves = true;
  return options;
}

// Nothing when the unsharded program has finite outputs and gradients at these sizes.
std::optional<Verdict> WhyIllPosed(const Program& program, const SpmdInputs& inputs) {
  const Expected<SpmdResult> whole = SpmdInterpreter(program.graph, 1, Spmd()).Run(inputs);
  if (!whole.ok()) return Verdict{Outcome::kIllPosed, "does not run whole", whole.status().ToString()};
  if (HasNan(*whole)) return Verdict{Outcome::kIllPosed, "not finite", ""};
  for (std::size_t i = 0; i < whole->outputs.front().size(); ++i) {
    const c10::IValue& output = whole->outputs.front()[i];
    if (!output.isTensor() || !output.toTensor().requires_grad()) continue;
    const auto gradients = SpmdGradients(*whole, static_cast<int>(i));
    // A returned view that was made where no gradient is recorded says that it requires one, and has none.
    if (!gradients.ok()) return Verdict{Outcome::kIllPosed, "no gradient", gradients.status().ToString()};
    for (const auto& [name, gradient] : *gradients) {
      if (!gradient.isfinite().all().item<bool>()) return Verdict{Outcome::kIllPosed, "not finite", ""};
    }
  }
  return std::nullopt;
}

// What the framework would not have to do: a view of memory that does not allow one becomes a reshape.
void ViewsBecomeReshapes(Graph& graph) {
  for (const auto& node : graph.nodes()) {
    if (node->op == "aten.view") node->op = "aten.reshape";
  }
}

}  // namespace

Program Copy(const Program& program) {
  return {program.graph.Clone(), program.ranks, program.runs, program.options, program.lowered, program.seed};
}

std::optional<Verdict> Prepare(Program& program) {
  for (const auto& sizes : program.runs) {
    const Expected<SpmdInputs> inputs = MakeProgramInputs(program.graph, sizes, program.seed);
    if (!inputs.ok()) return Verdict{Outcome::kIllPosed, "no inputs", inputs.status().ToString()};
    std::optional<Verdict> verdict = WhyIllPosed(program, *inputs);
    if (verdict && verdict->text.find("view size is not compatible") != std::string::npos) {
      ViewsBecomeReshapes(program.graph);
      verdict = WhyIllPosed(program, *inputs);
    }
    if (verdict) return verdict;
  }
  return std::nullopt;
}

Expected<Partitioned> PartitionProgram(const Program& program, const std::string& pipeline,
                                       const CheckOptions& options) {
  Partitioned partitioned{program.graph.Clone(), {}, nullptr};
  CompileOptions compile_options;
  compile_options.pipeline = pipeline;
  compile_options.pass = program.options;
  compile_options.extra_rules = options.extra_rules;
  if (!options.verify) compile_options.manager.disabled = {"verify-partitioned"};
  compile_options.observer = [&](const Pass& pass, const Graph& after, bool) {
    if (std::string_view(pass.name()) != "optimize-collectives") return;
    for (const Argument& output : after.output()->args) {
      partitioned.layouts.push_back(output.node() == nullptr ? Layout() : output.node()->type.layout);
    }
  };
  const Expected<CompileResult> result = compile(partitioned.graph, compile_options);
  if (!result.ok()) return result.status();
  partitioned.whole = result->whole;
  return partitioned;
}

Verdict CompareProgram(const Program& program, const Graph& partitioned, const std::vector<Layout>& layouts,
                       const CheckOptions& options) {
  Verdict verdict;
  for (const auto& sizes : program.runs) {
    const Expected<SpmdInputs> inputs = MakeProgramInputs(program.graph, sizes, program.seed);
    if (!inputs.ok()) return {Outcome::kIllPosed, "no inputs", inputs.status().ToString()};
    CompareOptions compare;
    compare.tolerance = options.tolerance;
    compare.smallest_gradient =
        1e-3;  // Inputs are of the order of 1, cotangents are 1: what is below 1e-13 is rounding.
    compare.output_layouts = layouts;
    compare.spmd = Spmd();
    Graph whole = program.graph.Clone();
    if (program.options.outputs == "loss_only") {  // What the partitioned program leaves out is not compared.
      for (std::size_t i = 0; i < whole.output()->args.size(); ++i) {
        if (partitioned.output()->args[i].is_none()) whole.output()->args[i] = Argument();
      }
    }
    const Expected<Comparison> comparison = CompareWithWhole(whole, partitioned, program.ranks, *inputs, compare);
    if (!comparison.ok()) return {Outcome::kFailed, "does not run", comparison.status().ToString()};
    if (comparison->equal()) continue;
    if (RoundingExplains(program, *inputs, *comparison, compare)) {
      return {Outcome::kIllPosed, "rounding is enlarged", comparison->ToString()};
    }
    return {Outcome::kFailed, "different", comparison->ToString()};
  }
  return verdict;
}

Verdict CheckProgram(const Program& original, const CheckOptions& options) try {
  Program program = Copy(original);
  if (const auto verdict = Prepare(program)) return *verdict;
  const Expected<Partitioned> partitioned = PartitionProgram(program, "autosp-no-lower", options);
  if (!partitioned.ok()) {
    const bool defect = IsDefect(partitioned.status());
    return {defect ? Outcome::kFailed : Outcome::kRefused, CodeOf(partitioned.status()),
            partitioned.status().ToString()};
  }
  Verdict verdict = CompareProgram(program, partitioned->graph, partitioned->layouts, options);
  for (const auto& node : partitioned->graph.nodes()) {
    if (!node->is_call() || !node->op.starts_with("autosp.")) continue;
    const bool moves = node->op != "autosp.shard_slice" && node->op != "autosp.mask_padding";
    ++(moves ? verdict.collectives : verdict.slices);
  }
  if (verdict.outcome != Outcome::kEqual || !program.lowered) return verdict;
  const Expected<Partitioned> lowered = PartitionProgram(program, "autosp", options);
  if (!lowered.ok()) return {Outcome::kFailed, "lowered " + CodeOf(lowered.status()), lowered.status().ToString()};
  const Verdict again = CompareProgram(program, lowered->graph, lowered->layouts, options);
  if (again.outcome != Outcome::kEqual) return {again.outcome, "lowered " + again.kind, again.text};
  return verdict;
} catch (const std::exception& error) {
  return {Outcome::kFailed, "exception", error.what()};
}

}  // namespace autosp::test
