// What backward computes again is what it would have kept: planned joint graphs against the same graphs without a plan.
#include "spmd_check.h"

#include <autosp/analysis/recompute_graph.h>
#include <autosp/ir/verifier.h>

#include <autosp_pipeline.h>

namespace autosp::testing {
namespace {

// Two layers over ranks: heads and sequence are exchanged in the forward and back in the backward.
constexpr std::string_view kJoint = R"(
mesh @m = {"sp"=$P}
hints {s0=64}
divisible {s0 % $P}
graph @g(%x: f64[1, 4, floordiv(s0, $P), 8], %n: int(s0), %w0: f64[8, 8], %w1: f64[8, 8],
         %t: f64[1, 4, floordiv(s0, $P), 8] tangent) form=joint {
  %l = sym.floordiv(%n, $P) : int(floordiv(s0, $P))
  %f0 = aten.view(%x, [-1, 8]) : f64[floordiv(s0, $P)*4, 8] loc(module "layers.0.proj")
  %m0 = aten.mm(%f0, %w0) : f64[floordiv(s0, $P)*4, 8] loc(module "layers.0.proj")
  %a0 = aten.tanh(%m0) : f64[floordiv(s0, $P)*4, 8] loc(module "layers.0.act")
  %q0 = aten.view(%a0, [1, 4, %l, 8]) : f64[1, 4, floordiv(s0, $P), 8] loc(module "layers.0.attn")
  %e0 = autosp_rt.all_to_all(%q0) {dim=2, major=1, length=%n, minor=1, to_dim=1, to_major=1, to_length=4, to_minor=1, group=group.sp} : f64[1, floordiv(4, $P), s0, 8] loc(module "layers.0.attn")
  %s0 = aten.sin(%e0) : f64[1, floordiv(4, $P), s0, 8] loc(module "layers.0.attn")
  %b0 = autosp_rt.all_to_all(%s0) {dim=1, major=1, length=4, minor=1, to_dim=2, to_major=1, to_length=%n, to_minor=1, group=group.sp} : f64[1, 4, floordiv(s0, $P), 8] loc(module "layers.0.attn")
  %h0 = aten.add.Tensor(%x, %b0) : f64[1, 4, floordiv(s0, $P), 8] loc(module "layers.0")
  %f1 = aten.view(%h0, [-1, 8]) : f64[floordiv(s0, $P)*4, 8] loc(module "layers.1.proj")
  %m1 = aten.mm(%f1, %w1) : f64[floordiv(s0, $P)*4, 8] loc(module "layers.1.proj")
  %a1 = aten.tanh(%m1) : f64[floordiv(s0, $P)*4, 8] loc(module "layers.1.act")
  %v1 = aten.view(%a1, [1, 4, %l, 8]) : f64[1, 4, floordiv(s0, $P), 8] loc(module "layers.1.act")
  %h1 = aten.mul.Tensor(%h0, %v1) : f64[1, 4, floordiv(s0, $P), 8] loc(module "layers.1")
  %gv1 = aten.mul.Tensor(%t, %h0) : f64[1, 4, floordiv(s0, $P), 8]
  %gh0 = aten.mul.Tensor(%t, %v1) : f64[1, 4, floordiv(s0, $P), 8]
  %ga1 = aten.view(%gv1, [-1, 8]) : f64[floordiv(s0, $P)*4, 8]
  %gm1 = aten.tanh_backward(%ga1, %a1) : f64[floordiv(s0, $P)*4, 8]
  %tf1 = aten.t(%f1) : f64[8, floordiv(s0, $P)*4]
  %gw1 = aten.mm(%tf1, %gm1) : f64[8, 8]
  %gs0 = autosp_rt.all_to_all(%gh0) {dim=2, major=1, length=%n, minor=1, to_dim=1, to_major=1, to_length=4, to_minor=1, group=group.sp} : f64[1, floordiv(4, $P), s0, 8]
  %c0 = aten.cos(%e0) : f64[1, floordiv(4, $P), s0, 8]
  %ge0 = aten.mul.Tensor(%gs0, %c0) : f64[1, floordiv(4, $P), s0, 8]
  %gq0 = autosp_rt.all_to_all(%ge0) {dim=1, major=1, length=4, minor=1, to_dim=2, to_major=1, to_length=%n, to_minor=1, group=group.sp} : f64[1, 4, floordiv(s0, $P), 8]
  %ga0 = aten.view(%gq0, [-1, 8]) : f64[floordiv(s0, $P)*4, 8]
  %gm0 = aten.tanh_backward(%ga0, %a0) : f64[floordiv(s0, $P)*4, 8]
  %tf0 = aten.t(%f0) : f64[8, floordiv(s0, $P)*4]
  %gw0 = aten.mm(%tf0, %gm0) : f64[8, 8]
  return %h1 backward none, none, %gw0, %gw1
})";

// Every output of every rank; an untouched graph and its unrolled plan run the same operations, so nothing may differ.
void ExpectSameOutputs(const Graph& joint, const Graph& unrolled, int ranks) {
  RandomInputOptions options;
  options.sizes["s0"] = 8;
  const Expected<SpmdInputs> inputs = MakeRandomInputs(joint, options);
  ASSERT_TRUE(inputs.ok()) << inputs.status().ToString();
  const Expected<SpmdResult> truth = SpmdInterpreter(joint, ranks).Run(*inputs);
  const Expected<SpmdResult> found = SpmdInterpreter(unrolled, ranks).Run(*inputs);
  ASSERT_TRUE(truth.ok()) << truth.status().ToString();
  ASSERT_TRUE(found.ok()) << found.status().ToString();
  for (int rank = 0; rank < ranks; ++rank) {
    ASSERT_EQ(truth->outputs[rank].size(), found->outputs[rank].size());
    for (std::size_t i = 0; i < truth->outputs[rank].size(); ++i) {
      if (!truth->outputs[rank][i].isTensor()) continue;
      EXPECT_TRUE(truth->outputs[rank][i].toTensor().equal(found->outputs[rank][i].toTensor())) << i;
    }
  }
}

std::string NamesOfSecondNodes(const Graph& graph) {
  std::string names;
  for (const auto& node : graph.nodes()) {
    if (node->name.ends_with("_again")) names += node->name + " ";
  }
  return names;
}

class Recomputation : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, Recomputation, ::testing::Values(1, 2, 4), ::testing::PrintToStringParamName());

TEST_P(Recomputation, GivesTheSameGradients) {
  const Expected<Graph> joint = Parse(WithRanks(kJoint, GetParam()), "joint");
  ASSERT_TRUE(joint.ok()) << joint.status().ToString();
  for (const auto& [policy, budget] : std::vector<std::pair<std::string, std::string>>{
           {"full", ""}, {"sac", ""}, {"auto", "0.0"}, {"auto", "0.5"}, {"auto", "1.0"}}) {
    Graph planned = joint->Clone();
    CompileOptions options;
    options.pipeline = "plan-activation-checkpoints";
    options.pass.checkpoint = policy;
    options.pass.memory_budget = budget;
    options.pass.sequence_parallel_size = GetParam();
    const Expected<CompileResult> result = compile(planned, options);
    ASSERT_TRUE(result.ok()) << result.status().ToString();
    const Graph unrolled = UnrollRecomputation(planned);
    EXPECT_TRUE(Verify(unrolled).ok()) << Verify(unrolled).ToString();
    if (policy == "full") {
      // Layer 0 keeps x (an input) and leaves h0; with the exchange before sin, all of it runs again.
      EXPECT_EQ(NamesOfSecondNodes(unrolled),
                "f0_again m0_again a0_again q0_again e0_again f1_again m1_again a1_again "
                "v1_again ");
    }
    ExpectSameOutputs(*joint, unrolled, GetParam());
  }
}

// The comparison can fail: a value computed again from something else gives other gradients.
TEST(Recomputation, AWrongSecondNodeIsSeen) {
  const Expected<Graph> joint = Parse(WithRanks(kJoint, 1), "joint");
  ASSERT_TRUE(joint.ok());
  Graph planned = joint->Clone();
  planned.Find("a1")->recompute = true;
  Graph unrolled = UnrollRecomputation(planned);
  unrolled.Find("a1_again")->op = "aten.sin";
  SpmdInputs inputs = MakeRandomInputs(*joint, {.sizes = {{"s0", 8}}}).value();
  const auto truth = SpmdInterpreter(*joint, 1).Run(inputs), found = SpmdInterpreter(unrolled, 1).Run(inputs);
  ASSERT_TRUE(truth.ok() && found.ok());
  EXPECT_FALSE(truth->outputs[0][4].toTensor().equal(found->outputs[0][4].toTensor()));
}

}  // namespace
}  // namespace autosp::testing
