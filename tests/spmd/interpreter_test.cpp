// What the interpreter does with one graph: arguments, symbols, regions, and the text of its refusals.
#include "spmd_check.h"

#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/ones.h>
#include <c10/core/GradMode.h>

#include <gmock/gmock.h>

namespace autosp::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

at::TensorOptions F64() { return at::TensorOptions().dtype(c10::kDouble); }
at::TensorOptions I64() { return at::TensorOptions().dtype(c10::kLong); }

Expected<SpmdResult> RunText(std::string_view text, const SpmdInputs& inputs, int ranks = 1, SpmdOptions options = {}) {
  AUTOSP_ASSIGN_OR_RETURN(const Graph graph, Parse(text, "test"));
  return SpmdInterpreter(graph, ranks, options).Run(inputs);
}

std::string ErrorOf(std::string_view text, const SpmdInputs& inputs, int ranks = 1) {
  const Expected<SpmdResult> result = RunText(text, inputs, ranks);
  return result.ok() ? "no error" : result.status().ToString();
}

TEST(Interpreter, ConvertsArgumentsAsSchemasWant) {
  const auto result =
      RunText(R"(
graph @g(%x: f32[2, 3], %e: f64[]) {
  %wide = aten.to.dtype(%x, dtype.f64) : f64[2, 3]
  %scaled = aten.mul.Tensor(%wide, 2) : f64[2, 3]
  %joined = aten.cat([%scaled, %wide], 1) : f64[2, 6]
  %parts = aten.split.Tensor(%joined, 4, 1) : (f64[2, 4], f64[2, 2])
  %last = builtin.getitem(%parts, -1) : f64[2, 2]
  %where = aten.arange.start(0, 2) {dtype=dtype.i64, layout=layout.strided, device=device.cuda:0, pin_memory=false} : i64[2]
  %picked = aten.index.Tensor(%last, [none, %where]) : f64[2, 2]
  %clamped = aten.clamp(%picked, none, 4.5) : f64[2, 2]
  %top = aten.max.dim(%clamped, 1) : (f64[2], i64[2])
  %values = builtin.getitem(%top, 0) : f64[2]
  %eps = aten.item(%e) : float
  %shifted = aten.add.Scalar(%values, %eps) : f64[2]
  %padded = aten.constant_pad_nd(%shifted, [0, 1], -1.0) : f64[3]
  return %padded, [%eps, 3], none
})",
              {{"x", at::arange(6, F64().dtype(c10::kFloat)).view({2, 3})}, {"e", at::ones({}, F64())}});
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  const at::Tensor& padded = result->outputs[0][0].toTensor();
  EXPECT_EQ(padded.scalar_type(), c10::kDouble);
  EXPECT_EQ(padded.select(0, 0).item<double>(), 3);
  EXPECT_EQ(padded.select(0, 1).item<double>(), 5.5);
  EXPECT_EQ(padded.select(0, 2).item<double>(), -1);
  EXPECT_EQ(result->outputs[0][1].toListRef().size(), 2U);
  EXPECT_TRUE(result->outputs[0][2].isNone());
}

TEST(Interpreter, InfersIntegersFromShapes) {
  const auto result = RunText(R"(
graph @g(%n: int(s0), %twice: int(s0*2), %x: f64[s0, 3]) {
  %a = sym.add(%n, %twice) : int(s0*3)
  %b = sym.floordiv(%a, 2) : int(floordiv(s0*3, 2))
  %c = sym.mod(%b, 4) : int(mod(floordiv(s0*3, 2), 4))
  %d = sym.max(%c, %n) : int(max(mod(floordiv(s0*3, 2), 4), s0))
  %e = sym.sub(2, %n) : int(2 - s0)
  %f = sym.floordiv(%e, 2) : int(floordiv(2 - s0, 2))
  %g = sym.neg(%f) : int(0 - floordiv(2 - s0, 2))
  %h = sym.truediv(%n, 2) : float
  %i = sym.sum([%n, %n, 1]) : int(s0*2 + 1)
  %big = sym.gt(%n, 3) : boolean
  %even = sym.eq(%c, 2) : boolean
  %both = sym.and(%big, %even) : boolean
  %chosen = sym.ite(%both, 1, 2) : int(2)
  %shifted = sym.lshift(%n, 2) : int(s0*4)
  return %a, %b, %c, %d, %f, %g, %i, %chosen, %shifted, %h, %both
})",
                              {{"x", at::ones({5, 3}, F64())}});
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  const std::vector<std::int64_t> expected = {15, 7, 3, 5, -2, 2, 11, 2, 20};
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(result->outputs[0][i].toInt(), expected[i]) << i;
  EXPECT_EQ(result->outputs[0][9].toDouble(), 2.5);
  EXPECT_FALSE(result->outputs[0][10].toBool());
}

TEST(Interpreter, SwitchesGradientsAndPutsThemBack) {
  const auto result = RunText(R"(
graph @g(%x: f64[3]) {
  %off = builtin.set_grad_enabled(false) : none
  %a = aten.mul.Tensor(%x, 2.0) : f64[3]
  %on = builtin.set_grad_enabled(true) : none
  %b = aten.mul.Tensor(%x, %a) : f64[3]
  %loss = aten.sum(%b) : f64[]
  %stopped = builtin.set_grad_enabled(false) : none
  return %loss
})",
                              {{"x", at::ones({3}, F64())}});
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  const auto gradients = SpmdGradients(*result, 0);
  ASSERT_TRUE(gradients.ok()) << gradients.status().ToString();
  EXPECT_TRUE(at::allclose(gradients->at("x"), at::ones({3}, F64()).mul(2)));
  EXPECT_TRUE(c10::GradMode::is_enabled());
}

TEST(Interpreter, RanksHaveTheirOwnCopies) {
  const at::Tensor whole = at::ones({2}, F64());
  const auto result = RunText(R"(
graph @g(%x: f64[2], %i: i64[2]) {
  %r = autosp.mesh_coordinate() {group=group.sp} : i64[]
  %y = aten.add_.Tensor(%x, %r) : f64[2]
  %j = aten.add_.Tensor(%i, %r) : i64[2]
  %sum = aten.sum(%x) : f64[]
  return %sum, %j
})",
                              {{"x", whole}, {"i", at::arange(2, I64())}}, 3);
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(result->outputs[static_cast<std::size_t>(rank)][0].toTensor().item<double>(), 2 + 2 * rank);
    EXPECT_EQ(result->outputs[static_cast<std::size_t>(rank)][1].toTensor().select(0, 0).item<double>(), rank);
  }
  EXPECT_EQ(whole.sum().item<double>(), 2);
  const auto gradients = SpmdGradients(*result, 0);
  ASSERT_TRUE(gradients.ok()) << gradients.status().ToString();
  EXPECT_TRUE(at::allclose(gradients->at("x"), whole));
}

TEST(Interpreter, OnlyMarkedLeavesOnRequest) {
  constexpr std::string_view kText =
      "graph @g(%x: f64[2], %w: f64[2] grad) {\n  %y = aten.mul.Tensor(%x, %w) : f64[2]\n  return %y\n}";
  const SpmdInputs inputs = {{"x", at::ones({2}, F64())}, {"w", at::ones({2}, F64())}};
  EXPECT_EQ(RunText(kText, inputs)->leaves.front().size(), 2U);
  EXPECT_EQ(RunText(kText, inputs, 1, {.only_marked_leaves = true})->leaves.front().size(), 1U);
}

TEST(InterpreterErrors, NameNodeOperandsRankAndTorchsText) {
  const std::string text = ErrorOf(R"(
graph @g(%x: f64[2, 3], %w: f64[4, 5]) {
  %y = aten.mm(%x, %w) : f64[2, 5]  loc("model.py":41)
  return %y
})",
                                   {{"x", at::ones({2, 3}, F64())}, {"w", at::ones({4, 5}, F64())}}, 2);
  EXPECT_THAT(text, AllOf(HasSubstr("error[ASP0405]: aten.mm failed on rank 0 of 2: "),
                          HasSubstr("mat1 and mat2 shapes cannot be multiplied"), HasSubstr("model.py:41"),
                          HasSubstr("%x is f64[2, 3] on rank 0"), HasSubstr("%w is f64[4, 5]")));
}

TEST(InterpreterErrors, UnknownOperations) {
  const SpmdInputs inputs = {{"x", at::ones({2}, F64())}};
  const auto error = [&](const std::string& call) {
    return ErrorOf("graph @g(%x: f64[2]) {\n  %y = " + call + " : f64[2]\n  return %y\n}", inputs);
  };
  EXPECT_THAT(error("aten.no_such_thing(%x)"),
              HasSubstr("the simulator does not know the operation aten.no_such_thing"));
  EXPECT_THAT(error("aten.add.Nothing(%x, %x)"),
              HasSubstr("has no such overload; it has Scalar, Scalar_out, Tensor, out"));
  EXPECT_THAT(error("autosp.reshard(%x)"), HasSubstr("run reshard-to-collectives first"));
  EXPECT_THAT(error("torch.higher_order.cond(%x)"), HasSubstr("does not know the operation torch.higher_order.cond"));
  EXPECT_THAT(error("sym.gcd(3, 4)"), HasSubstr("does not know the operation sym.gcd"));
  EXPECT_THAT(error("aten.mul.Tensor(%x)"), HasSubstr("argument \"other\" is missing: aten::mul.Tensor"));
  EXPECT_THAT(error("aten.neg(%x) {colour=1}"), HasSubstr("no argument \"colour\""));
  EXPECT_THAT(error("aten.sum.dim_IntList(%x, [\"a\"])"), HasSubstr("argument \"dim\" wants int, not \"a\""));
  EXPECT_THAT(error("builtin.getitem(%x, 0)"), HasSubstr("wants a tuple or a list, not f64[2]"));
}

TEST(InterpreterErrors, CollectivesThatDoNotFit) {
  const SpmdInputs inputs = {{"x", at::ones({2, 6}, F64())}};
  const auto error = [&](const std::string& call) {
    return ErrorOf("graph @g(%x: f64[2, 6]) {\n  %y = " + call + " : f64[2, 6]\n  return %y\n}", inputs, 2);
  };
  EXPECT_THAT(error("autosp.shard_slice(%x) {dim=1, length=5}"),
              HasSubstr("dim 1 of f64[2, 6] should be 1 * 5 * 1 = 5"));
  EXPECT_THAT(error("autosp.shard_slice(%x) {dim=2, length=5}"), HasSubstr("dim 2 is outside of f64[2, 6]"));
  EXPECT_THAT(error("autosp.shard_slice(%x) {length=5}"), HasSubstr("autosp.shard_slice wants \"dim\""));
  EXPECT_THAT(error("autosp.all_gather(%x) {dim=1, length=6}"), HasSubstr("should be 1 * 3 * 1 = 3"));
  EXPECT_THAT(error("autosp.all_reduce(%x) {reduce=\"mean\"}"),
              HasSubstr("\"mean\" is not known: sum, avg, max or min"));
}

TEST(InterpreterErrors, InputsThatDoNotFit) {
  constexpr std::string_view kText = "graph @g(%x: f64[s0, 2], %y: f64[s0]) {\n  return %x\n}";
  const std::string missing = ErrorOf(kText, {{"z", 1}});
  EXPECT_THAT(missing, AllOf(HasSubstr("@g has no input %z"), HasSubstr("no value is given for the input %x"),
                             HasSubstr("no value is given for the input %y")));
  EXPECT_THAT(ErrorOf(kText, {{"x", at::ones({3, 2}, F64())}, {"y", at::ones({4}, F64())}}),
              HasSubstr("the value given for %y does not fit: its type has the shape [s0=3] but the value is f64[4]"));
}

TEST(InterpreterErrors, TypesThatDoNotFit) {
  const SpmdInputs inputs = {{"x", at::ones({2, 3}, F64())}};
  EXPECT_THAT(
      ErrorOf("graph @g(%x: f64[2, s0]) {\n  %y = aten.sum.dim_IntList(%x, [0]) : f64[2]\n  return %y\n}", inputs),
      HasSubstr("its type has the shape [2] but the value is f64[3]"));
  const auto graph = Parse("mesh @m = {\"sp\"=4}\ngraph @g(%x: f64[2, 3]) form=partitioned {\n  return %x\n}");
  ASSERT_TRUE(graph.ok()) << graph.status().ToString();
  const auto result = SpmdInterpreter(*graph, 2).Run(inputs);
  ASSERT_FALSE(result.ok());
  EXPECT_THAT(result.status().ToString(), HasSubstr("partitioned for \"sp\"=4 but 2 ranks are asked for"));
}

TEST(RandomInputs, FollowTypesUsesAndSeed) {
  const auto graph = Parse(R"(
graph @g(%ids: i64[2, s0], %mask: bool[s0], %e: f32[3, 4], %eps: f64[], %n: int(s0), %free: i64[50]) {
  %flat = aten.view(%ids, [-1]) : i64[s0*2]
  %x = aten.embedding(%e, %flat) : f32[s0*2, 4]
  return %x
})");
  ASSERT_TRUE(graph.ok()) << graph.status().ToString();
  const RandomInputOptions options = {.seed = 3, .sizes = {{"s0", 40}}, .int_ranges = {{"free", {5, 9}}}};
  const auto inputs = MakeRandomInputs(*graph, options), again = MakeRandomInputs(*graph, options);
  ASSERT_TRUE(inputs.ok()) << inputs.status().ToString();
  EXPECT_EQ(inputs->at("ids").toTensor().max().item<int64_t>(), 2);
  EXPECT_EQ(inputs->at("free").toTensor().min().item<int64_t>(), 5);
  EXPECT_EQ(inputs->at("free").toTensor().max().item<int64_t>(), 8);
  EXPECT_EQ(inputs->at("n").toInt(), 40);
  EXPECT_GT(inputs->at("eps").toTensor().item<double>(), 0);
  EXPECT_TRUE(inputs->at("e").toTensor().equal(again->at("e").toTensor()));
  const auto missing = MakeRandomInputs(*graph, {});
  ASSERT_FALSE(missing.ok());
  EXPECT_THAT(missing.status().ToString(), HasSubstr("give it: autosp-run --sizes s0=..."));
}

TEST(RandomInputs, WithFloatingDtypeChangesTypesAndConstants) {
  const auto graph = Parse(R"(
graph @g(%x: bf16[2], %i: i64[2]) {
  %y = aten.to.dtype(%x, dtype.f32) : f32[2]
  %j = aten.to.dtype(%i, dtype.i32) : i32[2]
  return %y, %j
})");
  ASSERT_TRUE(graph.ok()) << graph.status().ToString();
  const Graph wide = WithFloatingDtype(*graph, DType::kF64);
  const auto inputs = MakeRandomInputs(wide, {});
  ASSERT_TRUE(inputs.ok()) << inputs.status().ToString();
  const auto result = SpmdInterpreter(wide, 1).Run(*inputs);
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  EXPECT_EQ(result->outputs[0][0].toTensor().scalar_type(), c10::kDouble);
  EXPECT_EQ(result->outputs[0][1].toTensor().scalar_type(), c10::kInt);
}

}  // namespace
}  // namespace autosp::testing
