#include <autosp/ir/parser.h>
#include <autosp/ir/printer.h>
#include <autosp/ir/sym_builder.h>
#include <autosp/ir/verifier.h>

#include <gtest/gtest.h>

namespace autosp {
namespace {

constexpr const char* kText = R"(graph @g(%b: int(s0), %x: f32[s0, s1]) {
  %half = sym.floordiv(%b, 2) : int(floordiv(s0, 2))
  %y = aten.relu(%x) : f32[s0, s1]
  %late = sym.mul(%b, 3) : int(s0*3)
  return %y, %half, %late
})";

Graph Sample() {
  auto graph = Parse(kText);
  EXPECT_TRUE(graph.ok());
  return std::move(*graph);
}

TEST(SymBuilder, ReusesWhatIsThere) {
  Graph graph = Sample();
  SymBuilder builder(graph);
  EXPECT_EQ(*builder.Materialize(7), Argument(7));
  EXPECT_EQ(*builder.Materialize(Dim::Symbol("s0")), Argument(graph.Find("b")));
  EXPECT_EQ(*builder.Materialize(FloorDiv(Dim::Symbol("s0"), 2)), Argument(graph.Find("half")));
  EXPECT_EQ(graph.size(), 6u);
}

TEST(SymBuilder, BuildsBehindTheInputsEachOnce) {
  Graph graph = Sample();
  SymBuilder builder(graph);
  const Dim s0 = Dim::Symbol("s0"), s1 = Dim::Symbol("s1");
  const Dim dims[] = {CeilDiv(s1, 4), s0 * s1 * 2 - 1, s0 * s1 * 2 + 1, Max(s0, Mod(s1, 3)), s0 * 3};
  for (const Dim& dim : dims) {
    auto argument = builder.Materialize(dim);
    ASSERT_TRUE(argument.ok());
    EXPECT_EQ(argument->node()->type, Type::Int(dim)) << dim.ToString();
    EXPECT_EQ(*builder.Materialize(dim), *argument);
  }
  EXPECT_EQ(Print(graph), R"(graph @g(%b: int(s0), %x: f32[s0, s1]) {
  %half = sym.floordiv(%b, 2) : int(floordiv(s0, 2))
  %sym_size = aten.sym_size.int(%x, 1) : int(s1)
  %sym_add = sym.add(%sym_size, 3) : int(s1 + 3)
  %sym_floordiv = sym.floordiv(%sym_add, 4) : int(ceildiv(s1, 4))
  %sym_mul = sym.mul(%b, %sym_size) : int(s0*s1)
  %sym_mul_1 = sym.mul(%sym_mul, 2) : int(s0*s1*2)
  %sym_add_1 = sym.add(%sym_mul_1, -1) : int(s0*s1*2 - 1)
  %sym_add_2 = sym.add(%sym_mul_1, 1) : int(s0*s1*2 + 1)
  %sym_mod = sym.mod(%sym_size, 3) : int(mod(s1, 3))
  %sym_max = sym.max(%b, %sym_mod) : int(max(s0, mod(s1, 3)))
  %sym_mul_2 = sym.mul(%b, 3) : int(s0*3)
  %y = aten.relu(%x) : f32[s0, s1]
  %late = sym.mul(%b, 3) : int(s0*3)
  return %y, %half, %late
}
)");
  EXPECT_TRUE(Verify(graph).ok());
  // A second builder knows what the first one built.
  const std::size_t size = graph.size();
  EXPECT_TRUE(SymBuilder(graph).Materialize(CeilDiv(s1, 4)).ok());
  EXPECT_EQ(graph.size(), size);
}

TEST(SymBuilder, RefusesSymbolsThatNoInputCarries) {
  Graph graph = Sample();
  auto argument = SymBuilder(graph).Materialize(Dim::Symbol("s1") * Dim::Symbol("u0"));
  ASSERT_FALSE(argument.ok());
  EXPECT_EQ(argument.status().diagnostics()[0].code, DiagnosticCode::kUnsupportedSymbol);
  EXPECT_EQ(argument.status().diagnostics()[0].message,
            "no input of the graph carries the symbol u0 of the size s1*u0");
  EXPECT_EQ(graph.size(), 6u);  // Nothing was built on the way.
}

TEST(MaterializeDim, TakesValuesThatStandBeforeTheReader) {
  Graph graph = Sample();
  const Dim dim = Dim::Symbol("s0") * 3;
  EXPECT_EQ(*MaterializeDim(graph, dim, graph.output()), Argument(graph.Find("late")));
  auto early = MaterializeDim(graph, dim, graph.Find("y"));
  ASSERT_TRUE(early.ok());
  EXPECT_EQ(Print(*early), "%sym_mul");
  EXPECT_EQ(*MaterializeDim(graph, 4, graph.Find("y")), Argument(4));
}

}  // namespace
}  // namespace autosp
