// TorchScript in, TorchScript out: the exported module computes what the imported one did, or the import is refused.
#include <autosp/frontend/torchscript.h>

#include "rank_threads.h"
#include "script_models.h"

#include <autosp/autosp.h>
#include <autosp/interp/compare.h>
#include <autosp/ir/tag_input.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/serialization/import.h>

#include <sstream>

namespace autosp {
namespace {

using testing::GptLike;
using testing::LlamaLike;
using testing::ScriptModel;

Expected<ScriptGraph> Import(const ScriptModel& model) {
  return ImportScript(model.module, {.examples = model.batch, .sequence_dims = {{"ids", 1}, {"labels", 1}}});
}

// The loss and the gradients of all parameters, by path.
std::map<std::string, at::Tensor> Gradients(torch::jit::Module module, const std::vector<c10::IValue>& batch) {
  for (const auto& parameter : module.named_parameters()) parameter.value.mutable_grad().reset();
  const at::Tensor loss = module.forward(batch).toTensor();
  loss.backward();
  std::map<std::string, at::Tensor> result{{"loss", loss.detach()}};
  for (const auto& parameter : module.named_parameters()) result[parameter.name] = parameter.value.grad().clone();
  return result;
}

void ExpectSameTraining(const ScriptModel& model) {
  const Expected<ScriptGraph> script = Import(model);
  ASSERT_TRUE(script.ok()) << script.status().ToString();
  const Expected<torch::jit::Module> exported = ExportScript(*script);
  ASSERT_TRUE(exported.ok()) << exported.status().ToString();
  std::stringstream file;
  exported->save(file);
  const auto expected = Gradients(model.module, model.batch);
  const auto seen = Gradients(torch::jit::load(file), model.batch);
  ASSERT_EQ(expected.size(), seen.size());
  for (const auto& [name, value] : expected) {
    EXPECT_TRUE(at::equal(value, seen.at(name))) << name << "\n" << Print(script->graph);
  }
}

TEST(TorchScript, AnUntouchedGptTrainsBitForBit) { ExpectSameTraining(GptLike(at::kDouble, 16)); }
TEST(TorchScript, AnUntouchedLlamaTrainsBitForBit) { ExpectSameTraining(LlamaLike(at::kDouble, 16)); }

TEST(TorchScript, SizesOfTheSequenceAreSymbols) {
  const Expected<ScriptGraph> script = Import(LlamaLike(at::kFloat, 16));
  ASSERT_TRUE(script.ok()) << script.status().ToString();
  const std::string text = Print(script->graph, {.locations = false});
  EXPECT_NE(text.find("%ids: i64[2, s0] tag=1"), std::string::npos) << text;
  EXPECT_NE(text.find("f32[s0*2 - 2, 29]"), std::string::npos) << text;
  EXPECT_EQ(script->longest, 0);
}

TEST(TorchScript, ATableOfPositionsBoundsTheLength) {
  const Expected<ScriptGraph> script = Import(GptLike(at::kFloat, 16));
  ASSERT_TRUE(script.ok()) << script.status().ToString();
  EXPECT_EQ(script->longest, 16);
}

// Without the checks of the exported module these calls would run and give a wrong number.
TEST(TorchScript, TheExportedModuleRefusesOtherSizes) {
  testing::ModelMaker make(at::kDouble);
  make.Parameter("w", {4});
  const ScriptModel model =
      make.Finish("def forward(self, ids, labels):\n  return self.w.sum() * ids.size(0) * ids.size(1)", 16);
  const Expected<ScriptGraph> script = Import(model);
  ASSERT_TRUE(script.ok()) << script.status().ToString();
  Expected<torch::jit::Module> exported = ExportScript(*script);
  ASSERT_TRUE(exported.ok()) << exported.status().ToString();
  const auto message = [&](const at::Tensor& ids, const at::Tensor& labels) -> std::string {
    try {
      exported->forward({ids, labels});
    } catch (const std::exception& error) {
      return error.what();
    }
    return "";
  };
  const at::Tensor ids = model.batch[0].toTensor();
  EXPECT_THAT(message(ids, ids.slice(1, 0, 8)), ::testing::HasSubstr("the argument labels must be i64[2, s0]"));
  EXPECT_THAT(message(ids.slice(0, 0, 1), ids.slice(0, 0, 1)), ::testing::HasSubstr("the argument ids must be"));
  EXPECT_EQ(message(ids.slice(1, 0, 12), ids.slice(1, 0, 12)), "");
}

// The imported graph on two simulated ranks, against the imported graph on one.
void ExpectEqualOnRanks(const ScriptModel& model, int ranks, double tolerance) {
  Expected<ScriptGraph> script = Import(model);
  ASSERT_TRUE(script.ok()) << script.status().ToString();
  const Graph whole = script->graph.Clone();
  CompileOptions options;
  options.pass.sequence_parallel_size = ranks;
  const Expected<CompileResult> compiled = compile(script->graph, options);
  ASSERT_TRUE(compiled.ok()) << compiled.status().ToString();
  ASSERT_TRUE(compiled->partitioned);
  SpmdInputs inputs;
  for (const ScriptInput& input : script->inputs) {
    inputs[input.name] =
        input.argument < 0 ? c10::IValue(input.value.detach()) : model.batch[static_cast<std::size_t>(input.argument)];
  }
  CompareOptions compare;
  compare.tolerance = tolerance;
  const Expected<Comparison> comparison = CompareWithWhole(whole, script->graph, ranks, inputs, compare);
  ASSERT_TRUE(comparison.ok()) << comparison.status().ToString();
  EXPECT_TRUE(comparison->equal()) << comparison->ToString();
  // What the whole graph gives is what the module gives.
  const auto expected = Gradients(model.module, model.batch);
  const Expected<SpmdResult> run = SpmdInterpreter(whole, 1).Run(inputs);
  ASSERT_TRUE(run.ok()) << run.status().ToString();
  EXPECT_TRUE(at::allclose(run->outputs[0][0].toTensor(), expected.at("loss"), tolerance, tolerance));
}

TEST(TorchScript, PartitionedModelsAreEqualToTheWhole) {
  for (const int ranks : {2, 3}) {
    ExpectEqualOnRanks(GptLike(at::kDouble, 16), ranks, 1e-12);
    ExpectEqualOnRanks(LlamaLike(at::kDouble, 16), ranks, 1e-12);
    ExpectEqualOnRanks(LlamaLike(at::kFloat, 16), ranks, 1e-5);
  }
}

// The exported module, saved and loaded, trained on ranks that are threads, against the imported one on its own.
void ExpectEqualTraining(const ScriptModel& model, int ranks, int steps, double tolerance) {
  Expected<ScriptGraph> script = Import(model);
  ASSERT_TRUE(script.ok()) << script.status().ToString();
  CompileOptions options;
  options.pass.sequence_parallel_size = ranks;
  options.pass.collectives = "fused";
  const Expected<CompileResult> compiled = compile(script->graph, options);
  ASSERT_TRUE(compiled.ok()) << compiled.status().ToString();
  const Expected<torch::jit::Module> exported = ExportScript(*script);
  ASSERT_TRUE(exported.ok()) << exported.status().ToString();
  std::stringstream file;
  exported->save(file);
  const std::string bytes = file.str();

  using Step = std::map<std::string, at::Tensor>;
  const auto descend = [](const torch::jit::Module& module, const Step& gradients) {
    const c10::AutoGradMode no_grad(false);
    for (const auto& parameter : module.named_parameters()) parameter.value.sub_(gradients.at(parameter.name), 0.1);
  };
  std::vector<torch::jit::Module> modules;
  for (int rank = 0; rank < ranks; ++rank) {
    std::istringstream copy(bytes);
    modules.push_back(torch::jit::load(copy));
  }
  std::stringstream original;
  model.module.save(original);
  const torch::jit::Module whole = torch::jit::load(original);  // deepcopy() gives no leaves
  double worst = 0;
  for (int step = 0; step < steps; ++step) {
    std::vector<Step> now(static_cast<std::size_t>(ranks));
    testing::OnRankThreads(ranks, [&](int rank) {
      now[static_cast<std::size_t>(rank)] = Gradients(modules[static_cast<std::size_t>(rank)], model.batch);
    });
    const Step expected = Gradients(whole, model.batch);
    Step average;
    for (const auto& [name, value] : expected) {
      average[name] = at::zeros_like(value);
      for (const Step& one : now) average[name].add_(one.at(name), 1.0 / ranks);
      const double error =
          average[name].sub(value).abs().max().item<double>() / (value.abs().max().item<double>() + 1e-30);
      worst = std::max(worst, error);
      EXPECT_LE(error, tolerance) << name << " in step " << step;
    }
    for (const Step& one : now) EXPECT_TRUE(at::equal(one.at("loss"), now[0].at("loss")));
    // In f64 the ranks go their own way. In f32 training itself magnifies rounding from step to step, in one process
    // too, so there every step starts from the weights of one process.
    const bool own_way = tolerance < 1e-6;
    for (const torch::jit::Module& module : modules) descend(module, own_way ? average : expected);
    descend(whole, expected);
  }
  ::testing::Test::RecordProperty("largest_difference", std::to_string(worst));
}

TEST(TorchScript, ExportedModelsTrainEquallyOnRanks) {
  ExpectEqualTraining(GptLike(at::kDouble, 16), 2, 10, 1e-12);
  ExpectEqualTraining(LlamaLike(at::kDouble, 16), 2, 10, 1e-12);
  ExpectEqualTraining(LlamaLike(at::kFloat, 16), 2, 10, 1e-5);
  ExpectEqualTraining(GptLike(at::kFloat, 16), 4, 10, 1e-5);
  ExpectEqualTraining(LlamaLike(at::kDouble, 15), 2, 3, 1e-12);  // A padded tail.
}

struct Refusal {
  const char* what;
  const char* source;
  DiagnosticCode code;
  const char* message;
};

TEST(TorchScript, WhatHasNoFormIsRefusedWithItsLine) {
  const std::vector<Refusal> cases = {
      {"branch on data", "def forward(self, ids):\n  if bool(ids.sum() > 3):\n    ids = ids + 1\n  return ids",
       DiagnosticCode::kUnsupportedSymbol, "makes a number of the data"},
      {"loop over positions",
       "def forward(self, ids):\n  for i in range(ids.size(1)):\n    ids = ids + 1\n  return ids",
       DiagnosticCode::kUnsupportedArgument, "their number depends on the length"},
      {"branch on the length", "def forward(self, ids):\n  if ids.size(1) % 3 == 0:\n    ids = ids + 1\n  return ids",
       DiagnosticCode::kUnsupportedSymbol, "has another result at another length"},
      {"list changed in place", "def forward(self, ids):\n  a = [ids]\n  a.append(ids)\n  return torch.cat(a)",
       DiagnosticCode::kUnsupportedArgument, "a list is changed in place"},
      {"exception", "def forward(self, ids):\n  assert ids.size(0) != 2\n  return ids", DiagnosticCode::kCaptureFailed,
       "raises an exception"},
  };
  for (const Refusal& refusal : cases) {
    SCOPED_TRACE(refusal.what);
    const ScriptModel model = testing::ModelMaker(at::kFloat).Finish(refusal.source, 16);
    const Expected<ScriptGraph> script =
        ImportScript(model.module, {.examples = {model.batch[0]}, .sequence_dims = {{"ids", 1}}});
    ASSERT_FALSE(script.ok()) << Print(script->graph);
    const Diagnostic& diagnostic = script.status().diagnostics().front();
    EXPECT_EQ(diagnostic.code, refusal.code);
    EXPECT_NE(diagnostic.message.find(refusal.message), std::string::npos) << diagnostic.ToString();
    EXPECT_TRUE(diagnostic.location.known() || diagnostic.code == DiagnosticCode::kCaptureFailed)
        << diagnostic.ToString();
  }
}

}  // namespace
}  // namespace autosp
