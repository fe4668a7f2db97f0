#include <autosp/ir/graph.h>
#include <autosp/ir/printer.h>
#include <autosp/ir/verifier.h>

#include <gtest/gtest.h>

#include <memory>

namespace autosp {
namespace {

const Dim s0 = Dim::Symbol("s0");
Type Vector() { return Type::Tensor(DType::kF32, {s0}); }

std::string Names(const Graph& graph) {
  std::string names;
  for (const auto& node : graph.nodes())
    names += (names.empty() ? "" : " ") + (node->is_output() ? "return" : node->name);
  return names;
}

TEST(Graph, NamesAreUniqueAndPrintable) {
  Graph graph;
  graph.AddInput("x", Vector());
  EXPECT_EQ(graph.AddInput("x", Vector())->name, "x_1");
  EXPECT_EQ(graph.AddInput("x_1", Vector())->name, "x_1_1");
  EXPECT_EQ(graph.AddInput("x", Vector())->name, "x_2");
  EXPECT_EQ(graph.AddInput("L['self'].weight", Vector())->name, "L__self__.weight");
  EXPECT_EQ(graph.AddInput("", Vector())->name, "v");
  EXPECT_EQ(graph.Find("x_2")->name, "x_2");
  EXPECT_EQ(graph.Find("y"), nullptr);
}

TEST(Graph, KeepsInputsFirstAndOutputLast) {
  Graph graph;
  Node* x = graph.AddInput("x", Vector());
  Node* a = graph.AddCall("a", "aten.relu", {x}, Vector());
  Node* output = graph.SetOutput({a});
  Node* y = graph.AddInput("y", Vector());
  Node* b = graph.AddCall("b", "aten.relu", {a}, Vector());
  graph.InsertAfter(x, "c", "aten.relu", {y}, Vector());
  graph.InsertBefore(x, "d", "aten.relu", {y}, Vector());
  graph.InsertAfter(nullptr, "e", "aten.relu", {y}, Vector());
  graph.InsertAfter(output, "f", "aten.relu", {b}, Vector());
  graph.InsertBefore(output, "g", "aten.relu", {b}, Vector());
  graph.InsertAfter(a, "h", "aten.relu", {b}, Vector());
  EXPECT_EQ(Names(graph), "x y e d c a h b f g return");
  EXPECT_EQ(graph.SetOutput({b}), output);
  EXPECT_EQ(graph.output()->args[0].node(), b);
  EXPECT_EQ(graph.inputs(), (std::vector<Node*>{x, y}));
}

TEST(Graph, InsertedNodesTakeOverLocationAndModule) {
  Graph graph;
  Node* x = graph.AddInput("x", Vector());
  Node* a = graph.AddCall("a", "aten.relu", {x}, Vector());
  a->provenance = {{"m.py", 4, "f"}, "layers.0", "relu_1"};
  Node* b = graph.InsertAfter(a, "b", "aten.relu", {a}, Vector());
  EXPECT_EQ(b->provenance, (Provenance{{"m.py", 4, "f"}, "layers.0", ""}));
  EXPECT_EQ(b->origin, -1);
}

TEST(Graph, UsesAreReplacedEverywhere) {
  Graph graph;
  Node* x = graph.AddInput("x", Vector());
  Node* a = graph.AddCall("a", "aten.relu", {x}, Vector());
  Node* b = graph.AddCall("b", "aten.cat", {Argument::List{a, a}}, Vector());
  b->set_attribute("other", a);
  graph.SetOutput({a, b});
  Node* moved = graph.InsertAfter(a, "moved", "autosp.reshard", {a}, Vector());
  graph.ReplaceUses(a, moved, moved);
  EXPECT_EQ(moved->args[0].node(), a);
  EXPECT_EQ(b->operands(), (std::vector<Node*>{moved, moved, moved}));
  EXPECT_EQ(graph.output()->args[0].node(), moved);
  const auto users = graph.Users();
  EXPECT_EQ(users.at(moved), (std::vector<Node*>{b, graph.output()}));
  EXPECT_EQ(users.at(b), (std::vector<Node*>{graph.output()}));
  EXPECT_EQ(graph.Numbering().at(moved), 2);
}

TEST(Graph, ManyUsesAreReplacedInOneWalk) {
  Graph graph;
  Node* x = graph.AddInput("x", Vector());
  Node* a = graph.AddCall("a", "aten.alias", {x}, Vector());
  Node* b = graph.AddCall("b", "aten.alias", {a}, Vector());
  Node* c = graph.AddCall("c", "aten.relu", {b}, Vector());
  graph.ReplaceUses({{b, a}, {a, x}});
  EXPECT_EQ(c->args[0].node(), x);
  EXPECT_EQ(graph.RemoveIf([&](const Node& node) { return node.op == "aten.alias"; }), 2u);
  EXPECT_EQ(graph.Find("a"), nullptr);
  EXPECT_EQ(Names(graph), "x c");
  EXPECT_EQ(graph.AddCall("a", "aten.relu", {x}, Vector())->name, "a");
}

TEST(Graph, CloneSharesNothing) {
  Graph graph("g");
  graph.set_form(Form::kNormalized);
  graph.mesh() = {{"sp", 4}};
  Node* x = graph.AddInput("x", Vector());
  auto slice = std::make_shared<Argument::Slice>();
  slice->stop = x;
  graph.AddCall("a", "aten.slice", {x, slice}, Vector())->origin = 7;
  graph.SetOutput({graph.Find("a")});
  const Graph clone = graph.Clone();
  EXPECT_EQ(Print(clone), Print(graph));
  EXPECT_EQ(clone.Find("a")->origin, 7);
  EXPECT_NE(clone.Find("a")->args[0].node(), x);
  slice->stop = 3;
  x->type = Type::Int(1);
  EXPECT_EQ(clone.Find("a")->operands(), (std::vector<Node*>{clone.Find("x"), clone.Find("x")}));
  EXPECT_TRUE(clone.Find("x")->type.is_tensor());
  EXPECT_TRUE(Verify(clone).ok());
}

TEST(Graph, Divisibility) {
  Graph graph;
  graph.divisible() = {{s0, 4}, {Dim::Symbol("s1"), 2}, {s0 + 1, 3}, {CeilDiv(s0, 8), 5}};
  const Dim s1 = Dim::Symbol("s1");
  EXPECT_TRUE(graph.IsDivisible(s0, 4));
  EXPECT_TRUE(graph.IsDivisible(s0, 2));
  EXPECT_FALSE(graph.IsDivisible(s0, 8));
  EXPECT_TRUE(graph.IsDivisible(s0 * 2, 8));
  EXPECT_TRUE(graph.IsDivisible(s0 * s1, 8));
  EXPECT_TRUE(graph.IsDivisible(s0 + 12, 4));
  EXPECT_FALSE(graph.IsDivisible(s0 + 2, 4));
  EXPECT_TRUE(graph.IsDivisible((s0 + 1) * s1 * 2, 6));
  EXPECT_TRUE(graph.IsDivisible(CeilDiv(s0, 8) * 3, 15));
  EXPECT_TRUE(graph.IsDivisible(Dim::Symbol("u"), 1));
  EXPECT_TRUE(graph.IsDivisible(0, 7));
  EXPECT_FALSE(graph.IsDivisible(Dim::Symbol("u"), 0));
}

TEST(Graph, FormsAndAxes) {
  for (int i = 0; i < 8; ++i) EXPECT_EQ(FormFromString(ToString(static_cast<Form>(i))), static_cast<Form>(i));
  EXPECT_FALSE(FormFromString("local"));
  Graph graph;
  EXPECT_EQ(graph.axis_size(), 1);
  graph.mesh() = {{"dp", 2}, {"sp", 4}};
  EXPECT_EQ(graph.axis_size(), 4);
  EXPECT_EQ(graph.axis_size("dp"), 2);
}

TEST(Node, Attributes) {
  Node node;
  node.set_attribute("a", 1);
  node.set_attribute("b", 2);
  node.set_attribute("a", 3);
  EXPECT_EQ(*node.attribute("a"), Argument(3));
  EXPECT_EQ(node.attributes[0].first, "a");
  EXPECT_TRUE(node.remove_attribute("a"));
  EXPECT_FALSE(node.remove_attribute("a"));
  EXPECT_EQ(node.attribute("a"), nullptr);
}

}  // namespace
}  // namespace autosp
