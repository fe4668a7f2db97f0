// Dropout by seed and position: the numbers that a cut value draws are those of the whole one, bit for bit; and they
// are good numbers.
#include <autosp/ir/printer.h>

#include <autosp_pipeline.h>

#include <ATen/ops/scalar_tensor.h>

#include <cmath>

#include "spmd_check.h"

namespace autosp::testing {
namespace {

// The program with its dropouts rewritten for `ranks` and s0 = `length`, and its seed an input: %seed.
Graph Seeded(std::string_view program, int ranks, std::int64_t length) {
  Expected<Graph> graph = Parse(program, "program");
  EXPECT_TRUE(graph.ok()) << (graph.ok() ? "" : graph.status().ToString());
  graph->hints()["s0"] = length;
  CompileOptions options;
  options.pipeline = "normalize-captured-ops,unify-sizes,seed-shardings,seed-dropout";
  options.pass.sequence_parallel_size = ranks;
  const Expected<CompileResult> result = compile(*graph, options);
  EXPECT_TRUE(result.ok()) << (result.ok() ? "" : result.status().ToString());
  Node* seed = nullptr;
  for (const auto& node : graph->nodes()) {
    if (node->is_call("autosp_fx.draw_seed")) seed = node.get();
  }
  EXPECT_NE(seed, nullptr) << Print(*graph);
  graph->ReplaceUses(seed, graph->AddInput("seed", seed->type));
  graph->RemoveIf([&](const Node& node) { return &node == seed; });
  return std::move(*graph);
}

Expected<Graph> Partitioned(const Graph& seeded, int ranks, const std::string& last = "autosp") {
  Graph graph = seeded.Clone();
  std::string pipeline;
  bool behind = false;  // The passes after seed-dropout.
  for (const PassInfo& info : AllPasses()) {
    if (behind && info.form_in != Form::kJoint && (last == "autosp" || info.form_out != Form::kLowered)) {
      pipeline += std::string(",") + info.name;
    }
    behind = behind || std::string_view(info.name) == "seed-dropout";
  }
  CompileOptions options;
  options.pipeline = pipeline;
  options.pass.sequence_parallel_size = ranks;
  const Expected<CompileResult> result = compile(graph, options);
  if (!result.ok()) return result.status();
  return graph;
}

at::Tensor SeedTensor(std::int64_t seed) { return at::scalar_tensor(seed, at::TensorOptions().dtype(c10::kLong)); }

constexpr std::int64_t kSeed = 0x1234'5678'9abc'def0;

// Dropout on hidden states, before and after attention, and on the attention's weights, written out.
constexpr std::string_view kLayer = R"(hints {s0=8}
graph @layer(%w: f64[32, 8] grad, %wo: f64[8, 8] grad, %s: int(s0), %ids: i64[2, s0] tag=1, %labels: i64[2, s0] tag=1) {
  %e = aten.embedding(%w, %ids) : f64[2, s0, 8] grad
  %x = aten.dropout(%e, 0.25, true) : f64[2, s0, 8] grad
  %h = aten.view(%x, [2, %s, 4, 2]) : f64[2, s0, 4, 2] grad
  %q = aten.transpose.int(%h, 1, 2) : f64[2, 4, s0, 2] grad
  %k = aten.transpose.int(%q, 2, 3) : f64[2, 4, 2, s0] grad
  %scores = aten.matmul(%q, %k) : f64[2, 4, s0, s0] grad
  %p = aten.softmax.int(%scores, -1) : f64[2, 4, s0, s0] grad
  %pd = aten.dropout(%p, 0.5, true) : f64[2, 4, s0, s0] grad
  %o = aten.matmul(%pd, %q) : f64[2, 4, s0, 2] grad
  %ot = aten.transpose.int(%o, 1, 2) : f64[2, s0, 4, 2] grad
  %or = aten.reshape(%ot, [2, %s, 8]) : f64[2, s0, 8] grad
  %a = aten.linear(%or, %wo) : f64[2, s0, 8] grad
  %ad = aten.native_dropout(%a, 0.1, true) : (f64[2, s0, 8] grad, bool[2, s0, 8])
  %ad0 = builtin.getitem(%ad, 0) : f64[2, s0, 8] grad
  %y = aten.add.Tensor(%x, %ad0) : f64[2, s0, 8] grad
  %wd = aten.dropout(%w, 0.5, true) : f64[32, 8] grad
  %logits = aten.linear(%y, %wd) : f64[2, s0, 32] grad
  %l2 = aten.view(%logits, [-1, 32]) : f64[s0*2, 32] grad
  %t2 = aten.view(%labels, [-1]) : i64[s0*2]
  %loss = aten.cross_entropy_loss(%l2, %t2) : f64[] grad
  return %loss
})";

TEST(Dropout, CutValuesDrawWhatTheWholeOnesDraw) {
  for (const auto& [ranks, length] :
       std::vector<std::pair<int, std::int64_t>>{{2, 8}, {4, 8}, {2, 7}, {4, 7}, {3, 41}, {8, 41}}) {
    const Graph seeded = Seeded(kLayer, ranks, length);
    for (const char* last : {"autosp-no-lower", "autosp"}) {
      const Expected<Graph> graph = Partitioned(seeded, ranks, last);
      ASSERT_TRUE(graph.ok()) << graph.status().ToString();
      SpmdCheck check;
      check.inputs.sizes["s0"] = length;
      check.given["seed"] = SeedTensor(kSeed);
      EXPECT_TRUE(EqualsWhole(seeded, *graph, ranks, check)) << ranks << " ranks, length " << length << Print(*graph);
    }
  }
}

// Another seed on one side must show.
TEST(Dropout, AnotherSeedIsAnotherProgram) {
  const Graph seeded = Seeded(kLayer, 2, 8);
  const Expected<Graph> graph = Partitioned(seeded, 2);
  ASSERT_TRUE(graph.ok()) << graph.status().ToString();
  SpmdCheck check;
  check.inputs.sizes["s0"] = 8;
  Expected<SpmdInputs> inputs = MakeRandomInputs(seeded, check.inputs);
  ASSERT_TRUE(inputs.ok());
  std::vector<at::Tensor> losses;
  for (const std::int64_t seed : {kSeed, kSeed, kSeed + 1, kSeed + (std::int64_t{1} << 40)}) {
    (*inputs)["seed"] = SeedTensor(seed);
    const Expected<SpmdResult> result = SpmdInterpreter(*graph, 2).Run(*inputs);
    ASSERT_TRUE(result.ok()) << result.status().ToString();
    losses.push_back(result->outputs[0][0].toTensor());
  }
  EXPECT_TRUE(losses[0].equal(losses[1]));
  EXPECT_FALSE(losses[0].equal(losses[2]));
  EXPECT_FALSE(losses[0].equal(losses[3]));
}

// Ranks whose generators differ agree on the largest draw; without the all_reduce they would not, and the verifier
// sees.
TEST(Dropout, RanksAgreeOnOneSeed) {
  const Expected<Graph> whole = Parse(kLayer, "layer");
  ASSERT_TRUE(whole.ok());
  Graph graph = whole->Clone();
  CompileOptions options;
  options.pipeline = "autosp-no-lower";
  options.pass.sequence_parallel_size = 4;
  ASSERT_TRUE(compile(graph, options).ok());
  std::string drawn, reduced;
  for (const auto& node : graph.nodes()) {
    if (node->is_call("autosp_fx.draw_seed")) drawn = node->name;
    if (node->is_call("autosp.all_reduce") && node->type.dtype == DType::kI64) reduced = node->name;
  }
  ASSERT_FALSE(drawn.empty());
  ASSERT_FALSE(reduced.empty()) << Print(graph);
  SpmdCheck check;
  check.inputs.sizes["s0"] = 8;
  const Expected<SpmdInputs> inputs = MakeRandomInputs(*whole, check.inputs);
  ASSERT_TRUE(inputs.ok());
  std::int64_t before = -1;
  for (int step = 0; step < 2; ++step) {
    const Expected<SpmdResult> result = SpmdInterpreter(graph, 4).Run(*inputs);
    ASSERT_TRUE(result.ok()) << result.status().ToString();
    std::int64_t largest = -1;
    bool differ = false;
    for (const c10::IValue& value : result->values.at(drawn)) {
      differ = differ || (largest >= 0 && value.toTensor().item<std::int64_t>() != largest);
      largest = std::max(largest, value.toTensor().item<std::int64_t>());
    }
    EXPECT_TRUE(differ) << "the simulated generators gave every rank the same number: nothing is tested";
    for (const c10::IValue& value : result->values.at(reduced)) {
      EXPECT_EQ(value.toTensor().item<std::int64_t>(), largest);
    }
    EXPECT_NE(before, largest) << "two steps, one seed";
    before = largest;
    for (const auto& outputs : result->outputs)
      EXPECT_TRUE(outputs[0].toTensor().equal(result->outputs[0][0].toTensor()));
  }
  graph.ReplaceUses(graph.Find(reduced), graph.Find(drawn));
  options.pipeline = "verify-partitioned";
  EXPECT_FALSE(compile(graph, options).ok());
}

// Statistics

// The masks of three sites of one shape: ones where an element is kept, f64.
std::vector<at::Tensor> Masks(const std::vector<std::int64_t>& shape, double p, std::int64_t seed) {
  std::string sizes;
  for (const std::int64_t size : shape) sizes += (sizes.empty() ? "" : ", ") + std::to_string(size);
  const std::string type = "f64[" + sizes + "]", probability = std::to_string(p);
  const std::string text = "graph @g(%ids: i64[2, 8] tag=1, %x: " + type + ") {\n  %a = aten.dropout(%x, " +
                           probability + ", true) : " + type + "\n  %b = aten.dropout(%x, " + probability +
                           ", true) : " + type + "\n  %c = aten.dropout(%x, " + probability + ", true) : " + type +
                           "\n  return %a, %b, %c\n}";
  const Graph graph = Seeded(text, 2, 8);
  SpmdInputs inputs;
  inputs["ids"] = at::zeros({2, 8}, c10::kLong);
  inputs["x"] = at::ones(shape, c10::kDouble);
  inputs["seed"] = SeedTensor(seed);
  const Expected<SpmdResult> result = SpmdInterpreter(graph, 1).Run(inputs);
  EXPECT_TRUE(result.ok()) << (result.ok() ? "" : result.status().ToString());
  std::vector<at::Tensor> masks;
  for (const c10::IValue& output : result->outputs[0]) {
    const at::Tensor& y = output.toTensor().detach();
    masks.push_back(y.ne(0).to(c10::kDouble));
    const double scale = y.max().item<double>();
    EXPECT_NEAR(scale, 1 / (1 - p), 1e-12);
  }
  return masks;
}

// How far the share of kept elements is from q, in standard deviations.
double Deviation(const at::Tensor& kept, double q) {
  const auto n = static_cast<double>(kept.numel());
  return (kept.sum().item<double>() - n * q) / std::sqrt(n * q * (1 - q));
}

// Correlation of two masks whose elements are kept with probability q, in standard deviations.
double Correlation(const at::Tensor& a, const at::Tensor& b, double q) {
  const auto n = static_cast<double>(a.numel());
  return (a.sub(q) * b.sub(q)).sum().item<double>() / (std::sqrt(n) * q * (1 - q));
}

// 5 standard deviations happen by chance once in 2 million; there are some thousands of checks, with fixed seeds.
constexpr double kSigma = 5;

TEST(Dropout, KeepsTheWantedShare) {
  for (const double p : {0.001, 0.1, 0.5, 0.9}) {
    for (const std::int64_t seed : {std::int64_t{0}, std::int64_t{1}, kSeed}) {
      const at::Tensor mask = Masks({4, 96, 256}, p, seed)[0];
      EXPECT_LT(std::abs(Deviation(mask, 1 - p)), kSigma) << p << " " << seed;
      // No row, column or batch is favoured: the spread of their sums is that of independent draws.
      for (const std::vector<std::int64_t>& dims : {std::vector<std::int64_t>{0, 1}, {0, 2}, {2}}) {
        const at::Tensor sums = mask.sum(dims);
        const double n = static_cast<double>(mask.numel()) / static_cast<double>(sums.numel());
        const at::Tensor chi = (sums - n * (1 - p)).square().sum() / (n * p * (1 - p));
        const auto freedom = static_cast<double>(sums.numel());
        EXPECT_LT(std::abs(chi.item<double>() - freedom), kSigma * std::sqrt(2 * freedom) + 3) << p << " " << seed;
      }
    }
  }
}

TEST(Dropout, NeighboursAreIndependent) {
  constexpr double kP = 0.3;
  for (const std::int64_t seed : {std::int64_t{0}, std::int64_t{7}, kSeed}) {
    const at::Tensor mask = Masks({4, 96, 256}, kP, seed)[0];
    for (int dim = 0; dim < 3; ++dim) {
      for (const std::int64_t distance : {1, 2, 3, 4, 8, 16, 32, 48, 64, 128}) {
        const std::int64_t rest = mask.size(dim) - distance;
        if (rest <= 0) continue;
        const double sigmas = Correlation(mask.narrow(dim, 0, rest), mask.narrow(dim, distance, rest), 1 - kP);
        EXPECT_LT(std::abs(sigmas), kSigma) << "dim " << dim << ", distance " << distance << ", seed " << seed;
      }
    }
  }
}

// Not one pair of rows, of the whole value: equal rows, or rows that are shifts of each other, would show here.
TEST(Dropout, NoTwoRowsAreAlike) {
  constexpr double kP = 0.5;
  const at::Tensor rows = Masks({8, 128, 128}, kP, kSeed)[0].reshape({1024, 128}).sub(0.5).mul(2);
  for (const std::int64_t shift : {0, 1, 5, 64}) {
    at::Tensor products = rows.matmul(rows.roll({shift}, {1}).t()).div(std::sqrt(128.0));
    if (shift == 0) products.fill_diagonal_(0);
    // A million pairs: the largest of so many normal numbers is below 6.
    EXPECT_LT(products.abs().max().item<double>(), 6.2) << shift;
    EXPECT_NEAR(products.square().mean().item<double>(), 1, 0.02) << shift;
  }
}

TEST(Dropout, SitesStepsAndShardsAreIndependent) {
  constexpr double kP = 0.3;
  const std::vector<at::Tensor> sites = Masks({4, 96, 256}, kP, kSeed);
  for (const auto& [a, b] : std::vector<std::pair<int, int>>{{0, 1}, {0, 2}, {1, 2}}) {
    EXPECT_LT(std::abs(Correlation(sites[a], sites[b], 1 - kP)), kSigma);
    for (const std::int64_t shift : {1, 2, 96}) {
      EXPECT_LT(std::abs(Correlation(sites[a], sites[b].roll({shift}, {2}), 1 - kP)), kSigma);
      EXPECT_LT(std::abs(Correlation(sites[a], sites[b].roll({shift}, {1}), 1 - kP)), kSigma);
    }
  }
  std::int64_t step = 0;
  for (const std::int64_t change : {std::int64_t{1}, std::int64_t{2}, std::int64_t{0x1e3779b9}, std::int64_t{1} << 31,
                                    std::int64_t{1} << 32, std::int64_t{1} << 61}) {
    const std::vector<at::Tensor> other = Masks({4, 96, 256}, kP, kSeed ^ change);
    for (const at::Tensor& a : sites) {
      for (const at::Tensor& b : other) EXPECT_LT(std::abs(Correlation(a, b, 1 - kP)), kSigma) << step;
    }
    ++step;
  }
  for (const int ranks : {2, 3, 4, 8}) {  // Blocks of the sequence, as ranks hold them.
    const std::int64_t block = 96 / ranks;
    for (int a = 0; a < ranks; ++a) {
      for (int b = 0; b < a; ++b) {
        const double sigmas =
            Correlation(sites[0].narrow(1, a * block, block), sites[0].narrow(1, b * block, block), 1 - kP);
        EXPECT_LT(std::abs(sigmas), kSigma) << ranks << " ranks, " << a << " and " << b;
      }
    }
  }
}

// Each bit of a position changes half of the decisions: no dim is hashed weakly.
TEST(Dropout, LargeAndSmallPositionsAreHashedAlike) {
  constexpr double kP = 0.5;
  for (const std::vector<std::int64_t>& shape :
       {std::vector<std::int64_t>{65536, 8}, {8, 65536}, {2, 4, 256, 256}, {524288}, {524288, 1}}) {
    const at::Tensor mask = Masks(shape, kP, 3)[0];
    EXPECT_LT(std::abs(Deviation(mask, kP)), kSigma);
    const at::Tensor flat = mask.reshape({-1});
    for (std::int64_t bit = 1; bit < flat.numel(); bit *= 2) {
      const at::Tensor pairs = flat.reshape({-1, 2, bit});
      EXPECT_LT(std::abs(Correlation(pairs.select(1, 0), pairs.select(1, 1), kP)), kSigma) << bit;
    }
  }
}

}  // namespace
}  // namespace autosp::testing
