#include <autosp/ir/parser.h>
#include <autosp/ir/verifier.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace autosp {
namespace {

using testing::ElementsAre;

std::vector<std::string> Breaches(const Graph& graph) {
  std::vector<std::string> messages;
  const Status status = Verify(graph);
  for (const Diagnostic& diagnostic : status.diagnostics()) {
    EXPECT_EQ(diagnostic.code, DiagnosticCode::kInvalidGraph);
    messages.push_back(diagnostic.message);
  }
  return messages;
}

std::vector<std::string> Breaches(std::string_view text) {
  auto graph = Parse(text);
  EXPECT_TRUE(graph.ok()) << (graph.ok() ? "" : graph.status().ToString());
  return graph.ok() ? Breaches(*graph) : std::vector<std::string>{"unreadable"};
}

TEST(Verifier, AcceptsGoodGraphs) {
  EXPECT_THAT(Breaches("graph @g(%x: f32[s0]) { %y = aten.relu_(%x) : f32[s0] return %y }"), ElementsAre());
  EXPECT_THAT(Breaches("graph @g(%x: f32[s0@sp]) form=sharded { %y = aten.__and__(%x) : f32[s0@sp] return %y }"),
              ElementsAre());
  EXPECT_THAT(
      Breaches("graph @g(%x: f32[s0@sp]) form=resharded { %y = autosp.all_gather(%x) : f32[s0]{whole} return %y }"),
      ElementsAre());
  EXPECT_THAT(Breaches("graph @g(%x: f32[4]) form=planned { %y = aten.relu(%x) : f32[4] checkpoint return %y }"),
              ElementsAre());
}

TEST(Verifier, ListsEveryStructuralBreach) {
  Graph graph, other;
  Node* stranger = other.AddInput("stranger", Type::Int(1));
  Node* x = graph.AddInput("x", Type::Tensor(DType::kF32, {4}));
  Node* a = graph.AddCall("a", "aten.relu", {x}, Type::Tensor(DType::kF32, {4}));
  Node* b = graph.AddCall("b", "", {stranger}, Type::Tuple({}));
  a->args = {b, static_cast<Node*>(nullptr)};
  x->name = "renamed";
  EXPECT_THAT(Breaches(graph),
              ElementsAre("the graph has 0 output nodes, not 1 (form captured)",
                          "%renamed is not found by its name: it was renamed in place (form captured)",
                          "%a reads %b, which does not stand before it (form captured)",
                          "%a reads a null value (form captured)", "%b has no operation (form captured)",
                          "%b reads a value that is not in the graph (form captured)",
                          "the tuple %b has no elements (form captured)"));
}

TEST(Verifier, NamesAndInputs) {
  Graph graph;
  Node* x = graph.AddInput("x", Type::Int(1));
  Node* a = graph.AddCall("a", "f", {}, Type::Int(1));
  graph.SetOutput({});
  a->name = "x";
  EXPECT_THAT(Breaches(graph), ElementsAre("two nodes have the name %x (form captured)"));
  a->name = "a";
  x->kind = Node::Kind::kCall;
  x->op = "f";
  a->kind = Node::Kind::kInput;
  EXPECT_THAT(Breaches(graph), ElementsAre("input %a stands after %x (form captured)"));
}

TEST(Verifier, LayoutsBelongToTheirForms) {
  EXPECT_THAT(Breaches("graph @g(%x: f32[s0@sp]) { return %x }"),
              ElementsAre("%x has the layout sharded(0) in a form without layouts (form captured)"));
  EXPECT_THAT(Breaches("graph @g(%x: f32[s0]) form=sharded { return %x }"),
              ElementsAre("%x has no layout (form sharded)"));
  EXPECT_THAT(Breaches("graph @g(%x: (i64[2]{whole}, f32[s0])) form=sharded { return %x }"),
              ElementsAre("%x has no layout (form sharded)"));
  EXPECT_THAT(Breaches("graph @g(%x: f32[(2, s0@sp, 3)=s0]) form=resharded { return %x }"),
              ElementsAre("dim 0 of %x has size s0, but its layout 2 * s0 * 3 gives s0*6 (form resharded)"));
  EXPECT_THAT(Breaches("graph @g(%x: f32[s0]{dim 2: s0@sp}) form=sharded { return %x }"),
              ElementsAre("%x is sharded on dim 2 of 1 dims (form sharded)"));
  EXPECT_THAT(Breaches("graph @g(%x: f32[2]{sum:sp}) form=partitioned { return %x }"),
              ElementsAre("%x has the layout partial(sum) in a form without layouts (form partitioned)"));
}

TEST(Verifier, OperationsBelongToTheirForms) {
  const auto with_op = [](std::string_view form, std::string_view call, std::string_view suffix) {
    return Breaches("graph @g(%x: f32[2]" + std::string(suffix) + ") form=" + std::string(form) +
                    " { %y = " + std::string(call) + " : f32[2]" + std::string(suffix) + " return %y }");
  };
  EXPECT_THAT(with_op("captured", "autosp.all_reduce(%x)", ""),
              ElementsAre("autosp.all_reduce does not belong in this form (form captured)"));
  EXPECT_THAT(with_op("sharded", "autosp.reshard(%x)", "{whole}"),
              ElementsAre("autosp.reshard does not belong in this form (form sharded)"));
  EXPECT_THAT(with_op("partitioned", "autosp.reshard(%x)", ""),
              ElementsAre("autosp.reshard does not belong in this form (form partitioned)"));
  EXPECT_THAT(with_op("partitioned", "autosp.all_gather(%x)", ""), ElementsAre());
  EXPECT_THAT(with_op("lowered", "autosp.all_gather(%x)", ""),
              ElementsAre("autosp.all_gather does not belong in this form (form lowered)"));
  EXPECT_THAT(with_op("normalized", "aten.add_.Tensor(%x)", ""),
              ElementsAre("aten.add_.Tensor writes to its operand (form normalized)"));
  EXPECT_THAT(with_op("normalized", "aten.__iand__.Tensor(%x)", ""),
              ElementsAre("aten.__iand__.Tensor writes to its operand (form normalized)"));
  EXPECT_THAT(with_op("normalized", "aten.cross_entropy_loss(%x, %x)", ""),
              ElementsAre("aten.cross_entropy_loss takes the mean, not sum and count (form normalized)"));
  EXPECT_THAT(with_op("normalized", "aten.cross_entropy_loss(%x, %x, none, 2)", ""), ElementsAre());
  EXPECT_THAT(with_op("joint", "aten.relu(%x)", ""), ElementsAre());
}

TEST(Verifier, RecomputeMarksAreOfThePlannedForm) {
  EXPECT_THAT(Breaches("graph @g(%x: f32[4]) form=joint { %y = aten.relu(%x) : f32[4] checkpoint return %y }"),
              ElementsAre("%y is marked for recomputation before the planned form (form joint)"));
}

TEST(Verifier, BreachesCarryTheUsersLine) {
  auto graph = Parse("graph @g(%x: f32[-1]) { %y = autosp.x(%x) : none loc(\"m.py\":7 in \"f\") return %y }");
  ASSERT_TRUE(graph.ok());
  const Status status = Verify(*graph);
  ASSERT_EQ(status.diagnostics().size(), 2u);
  EXPECT_EQ(status.diagnostics()[0].message, "%x has the negative size -1 (form captured)");
  EXPECT_EQ(status.diagnostics()[1].location, (SourceLocation{"m.py", 7, "f"}));
  EXPECT_EQ(status.diagnostics()[1].subject, "%y none");
}

}  // namespace
}  // namespace autosp
