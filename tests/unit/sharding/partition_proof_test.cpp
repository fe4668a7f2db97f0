#include <autosp/ir/parser.h>
#include <autosp/sharding/partition_proof.h>

#include <gmock/gmock.h>

#include <string>
#include <utility>

namespace autosp {
namespace {

using ::testing::HasSubstr;

Graph Read(const std::string& body, const std::string& inputs = "%ids: i64[1, 7] tag=1, %w: f32[32, 4] grad") {
  Expected<Graph> graph = Parse("mesh @m = {\"sp\"=2}\ngraph @g(" + inputs + ") form=partitioned {\n" + body + "}");
  EXPECT_TRUE(graph.ok()) << body;
  return std::move(*graph);
}

RuleTable Rules() { return RuleTable::BuiltIn().value(); }

// Two weights' worth of positions, looked up, summed: what the mutants below are made of.
const char* const kHead = R"(
  %ids_sp = autosp.shard_slice(%ids) {dim=1, major=1, length=7, minor=1, group=group.sp} : i64[1, 4]
  %x = aten.embedding(%w, %ids_sp) : f32[1, 4, 4] grad
)";

TEST(Layouts, AreDerived) {
  const Graph graph = Read(std::string(kHead) + R"(
  %m = autosp.mask_padding(%x) {value=0.0, dim=1, major=1, length=7, minor=1, group=group.sp} : f32[1, 4, 4] grad
  %l = aten.sum(%m) : f32[] grad
  %l_whole = autosp.all_reduce(%l) {reduce="sum", group=group.sp} : f32[] grad
  return %l_whole
)");
  PartitionFacts facts;
  ASSERT_TRUE(DeriveLayouts(graph, nullptr, Rules(), facts).ok());
  EXPECT_EQ(facts.Of(*graph.Find("x")).layout, Layout::Sharded(1, 7));
  EXPECT_EQ(facts.Of(*graph.Find("m")).tail, 0.0);
  EXPECT_TRUE(facts.Of(*graph.Find("l")).layout.is_partial());
  EXPECT_TRUE(CheckCotangents(graph, facts).ok());
}

// The forward derivation gives a trained value no partial maximum today; the backward one does not rely on that.
TEST(Cotangents, AMaximumOverRanksHasNone) {
  const Graph graph = Read(std::string(kHead) + R"(
  %l = aten.amax(%x) : f32[] grad
  %l_whole = autosp.all_reduce(%l) {reduce="max", group=group.sp} : f32[] grad
  return %l_whole
)");
  PartitionFacts facts;
  facts.layouts[graph.Find("x")] = {{Layout::Sharded(1, 7), {}}};
  facts.layouts[graph.Find("l")] = {{Layout::Partial(ReduceOp::kMax), {}}};
  const Status status = CheckCotangents(graph, facts);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.diagnostics()[0].code, DiagnosticCode::kCotangentConflict);
  EXPECT_THAT(status.ToString(), HasSubstr("only sums over the ranks have one"));
}

// Without the all_reduce every rank's loss is a term, and the average of the gradients is 1 / P of the gradient.
TEST(Cotangents, AMissingReductionIsAStateThatDoesNotFit) {
  const Graph graph = Read(std::string(kHead) + R"(
  %l = aten.sum(%x) : f32[] grad
  %double = aten.mul.Tensor(%l, 2.0) : f32[] grad
  return %double
)");
  PartitionFacts facts;
  facts.layouts[graph.Find("x")] = {{Layout::Sharded(1, 7), {}}};
  facts.layouts[graph.Find("l")] = {{Layout::Partial(), {}}};
  const Status status = CheckCotangents(graph, facts);
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(status.ToString(),
              HasSubstr("%l is partial(sum), so the ranks must hold all of it on every rank of its gradient, but they "
                        "hold terms of it"));
}

TEST(Cotangents, ATailThatHasOneMayNotBeAddedToAWeights) {
  // The sum reads a tail that nothing masked.
  const Graph graph = Read(std::string(kHead) + R"(
  %l = aten.sum(%x) : f32[] grad
  %l_whole = autosp.all_reduce(%l) {reduce="sum", group=group.sp} : f32[] grad
  return %l_whole
)");
  PartitionFacts facts;
  Graph whole = graph.Clone();
  const RuleTable rules = Rules();
  EXPECT_FALSE(DeriveLayouts(graph, nullptr, rules, facts).ok());  // Forward refuses it too; as if it had not:
  facts.layouts[graph.Find("l")] = {{Layout::Partial(), {}}};
  Node& sum = *whole.Find("l");
  whole.Find("x")->type.shape[1] = 7;
  FactorMapping mapping = MapFactors(sum, *rules.Find("aten.sum")).value();
  const int positions = mapping.operands[0].dims[1][0];
  facts.cuts[graph.Find("l")] = {mapping, {positions, 1, 7, 1}, {graph.Find("x")}};
  const Status status = CheckCotangents(graph, facts);
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(status.ToString(), HasSubstr("the padded tail of %x has a gradient, and aten.embedding adds it"));
}

// Two exchanges with each other's operand: every layout fits, only the whole program tells.
TEST(Correspondence, SeesSwappedOperands) {
  const char* const kWhole = R"(
graph @g(%ids: i64[1, 8] tag=1, %w: f32[32, 4] grad, %v: f32[32, 4] grad) form=normalized {
  %x = aten.embedding(%w, %ids) : f32[1, 8, 4] grad
  %y = aten.embedding(%v, %ids) : f32[1, 8, 4] grad
  %c = aten.cumsum(%x, 1) : f32[1, 8, 4] grad
  %d = aten.sub.Tensor(%c, %y) : f32[1, 8, 4] grad
  %l = aten.sum(%d) : f32[] grad
  return %l
})";
  const auto parts = [](const char* first, const char* second) {
    return Read(std::string(R"(
  %ids_sp = autosp.shard_slice(%ids) {dim=1, major=1, length=8, minor=1, group=group.sp} : i64[1, 4]
  %x = aten.embedding(%w, %ids_sp) : f32[1, 4, 4] grad
  %y = aten.embedding(%v, %ids_sp) : f32[1, 4, 4] grad
  %x_whole = autosp.all_gather(%)") +
                    first + R"() {dim=1, major=1, length=8, minor=1, group=group.sp} : f32[1, 8, 4] grad
  %y_whole = autosp.all_gather(%)" +
                    second + R"() {dim=1, major=1, length=8, minor=1, group=group.sp} : f32[1, 8, 4] grad
  %c = aten.cumsum(%x_whole, 1) : f32[1, 8, 4] grad
  %d = aten.sub.Tensor(%c, %y_whole) : f32[1, 8, 4] grad
  %l = aten.sum(%d) : f32[] grad
  return %l
)",
                "%ids: i64[1, 8] tag=1, %w: f32[32, 4] grad, %v: f32[32, 4] grad");
  };
  const Expected<Graph> read = Parse(kWhole);
  ASSERT_TRUE(read.ok());
  const Graph& whole = *read;
  const RuleTable rules = Rules();
  const auto check = [&](const Graph& graph) {
    PartitionFacts facts;
    EXPECT_TRUE(DeriveLayouts(graph, &whole, rules, facts).ok());
    return CheckCorrespondence(graph, whole, rules, facts, "sharded");
  };
  EXPECT_TRUE(check(parts("x", "y")).ok()) << check(parts("x", "y")).ToString();
  const Status status = check(parts("y", "x"));
  ASSERT_EQ(status.diagnostics().size(), 2u);
  EXPECT_THAT(status.ToString(), HasSubstr("%c = aten.cumsum is not what the whole program computes"));
  EXPECT_THAT(status.ToString(), HasSubstr("the whole program has %c = aten.cumsum(%x, 1)"));
}

}  // namespace
}  // namespace autosp
