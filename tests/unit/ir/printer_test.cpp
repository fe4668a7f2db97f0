#include <autosp/ir/parser.h>
#include <autosp/ir/printer.h>
#include <autosp/ir/verifier.h>

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <memory>
#include <string>

namespace autosp {
namespace {

// Printed exactly as it was read.
constexpr const char* kLayer =
    R"(mesh @m = {"dp"=1, "sp"=4}
hints {s0=128}
divisible {s0 % 4}
graph @layer(%q: f32[2, 8, s0@sp, 16] grad, %ids: i64[2, s0]{whole} tag=1) form=sharded {
  %o = aten.scaled_dot_product_attention(%q, %q, %q) {is_causal=true} : f32[2, 8, s0@sp, 16] grad  loc("model.py":41)
  %n = sym.mul(2, 3) : int(s0*2)
  %p = "my::op"(%o, [1, %n, -1], slice(none, 2, none), ellipsis) {dtype=dtype.f32} : (f32[(2, s0@sp, 3)], f32[]{sum:sp})
  return %p, %o
}
)";

TEST(Printer, PrintsTheDocumentedForm) {
  auto graph = Parse(kLayer);
  ASSERT_TRUE(graph.ok()) << graph.status().ToString();
  EXPECT_EQ(Print(*graph), kLayer);
  EXPECT_EQ(Print(*graph->Find("n")), "%n = sym.mul(2, 3) : int(s0*2)");
  EXPECT_EQ(Describe(*graph->Find("q")), "%q f32[2, 8, s0@sp, 16] grad");
  EXPECT_EQ(Describe(*graph->Find("ids")), "%ids i64[2, s0]");
  EXPECT_EQ(Print(*graph->output()), "return %p, %o");
}

// The example of the documentation is a graph that reads, verifies and prints back to itself.
TEST(Printer, TheDocumentedExampleIsTrue) {
  std::ifstream file(AUTOSP_DOCS_DIR "/ir.md");
  const std::string page((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const std::string fence = "```aspir\n";
  const std::size_t start = page.find(fence);
  ASSERT_NE(start, std::string::npos);
  const std::string text = page.substr(start + fence.size(), page.find("```", start + 1) - start - fence.size());
  auto graph = Parse(text, "docs/ir.md");
  ASSERT_TRUE(graph.ok()) << graph.status().ToString();
  EXPECT_TRUE(Verify(*graph).ok()) << Verify(*graph).ToString();
  EXPECT_EQ(Print(*graph), text);
}

TEST(Printer, LayoutsArePrintedWhereTheFormHasThem) {
  Graph graph;
  Node* x = graph.AddInput("x", Type::Tensor(DType::kF32, {Dim::Symbol("s0")}));
  x->type.layout = Layout::Replicated();
  graph.SetOutput({x});
  EXPECT_EQ(Print(graph), "graph @main(%x: f32[s0]) {\n  return %x\n}\n");
  graph.set_form(Form::kResharded);
  EXPECT_EQ(Print(graph), "graph @main(%x: f32[s0]{whole}) form=resharded {\n  return %x\n}\n");
  x->type.layout = Layout::Sharded(0, Dim::Symbol("s0"));
  graph.set_form(Form::kPartitioned);
  EXPECT_EQ(Print(graph), "graph @main(%x: f32[s0]) form=partitioned {\n  return %x\n}\n");
}

TEST(Printer, LocationsCanBeLeftOut) {
  Graph graph;
  Node* x = graph.AddInput("x", Type::Int(Dim::Symbol("s0")));
  x->provenance = {{"m.py", 4, "f"}, "layers.0", "l_x_"};
  graph.SetOutput({});
  EXPECT_EQ(Print(graph),
            "graph @main(%x: int(s0)  loc(\"m.py\":4 in \"f\", module \"layers.0\", fx \"l_x_\")) {\n  return\n}\n");
  EXPECT_EQ(Print(graph, {.locations = false}), "graph @main(%x: int(s0)) {\n  return\n}\n");
}

TEST(Printer, LongSignaturesTakeALinePerInput) {
  Graph graph;
  for (int i = 0; i < 4; ++i) graph.AddInput("a_rather_long_name_of_a_weight", Type::Tensor(DType::kBF16, {4096}));
  graph.SetOutput({});
  EXPECT_EQ(Print(graph),
            "graph @main(\n"
            "    %a_rather_long_name_of_a_weight: bf16[4096],\n"
            "    %a_rather_long_name_of_a_weight_1: bf16[4096],\n"
            "    %a_rather_long_name_of_a_weight_2: bf16[4096],\n"
            "    %a_rather_long_name_of_a_weight_3: bf16[4096]) {\n"
            "  return\n}\n");
}

TEST(Printer, NumbersNeverChangeKindOrBits) {
  EXPECT_EQ(Print(Argument(1.0)), "1.0");
  EXPECT_EQ(Print(Argument(-0.0)), "-0.0");
  EXPECT_EQ(Print(Argument(0.1)), "0.1");
  EXPECT_EQ(Print(Argument(1e22)), "1e+22");
  EXPECT_EQ(Print(Argument(-std::numeric_limits<double>::infinity())), "-inf");
  EXPECT_EQ(Print(Argument(std::numeric_limits<double>::quiet_NaN())), "nan");
  EXPECT_EQ(Print(Argument(std::numeric_limits<std::int64_t>::min())), "-9223372036854775808");
  for (const double value : {5e-324, 1.7976931348623157e308, 0.30000000000000004, 123456789.0, -std::nan(""),
                             std::bit_cast<double>(0x7ff4000000000001)}) {
    auto graph = Parse("graph @g() { %x = f(" + Print(Argument(value)) + ") : none return }");
    ASSERT_TRUE(graph.ok()) << graph.status().ToString();
    EXPECT_EQ(graph->Find("x")->args[0], Argument(value)) << value;
  }
}

TEST(Printer, OddTextIsQuoted) {
  EXPECT_EQ(Print(Argument("a\"b\\c\n\t\x01")), R"("a\"b\\c\n\t\x01")");
  EXPECT_EQ(Print(Argument(Argument::Constant{"device", "cuda:0"})), "device.cuda:0");
  EXPECT_EQ(Print(Argument(Argument::Constant{"graph", "a b"})), "graph.\"a b\"");
}

TEST(Printer, WrongGraphsPrintTruly) {
  Type type = Type::Tensor(DType::kF32, {8});
  type.layout = Layout::Sharded(0, 5);
  EXPECT_EQ(Print(type), "f32[(1, 5@sp, 1)=8]");
  type.layout = Layout::Sharded(3, 5);
  EXPECT_EQ(Print(type), "f32[8]{dim 3: 5@sp}");
}

}  // namespace
}  // namespace autosp
