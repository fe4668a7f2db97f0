#include <autosp/ir/hash.h>
#include <autosp/ir/parser.h>

#include <gtest/gtest.h>

namespace autosp {
namespace {

Graph Read(std::string_view text) {
  auto graph = Parse(text);
  EXPECT_TRUE(graph.ok()) << (graph.ok() ? "" : graph.status().ToString());
  return graph.ok() ? std::move(*graph) : Graph();
}

TEST(Hash, IsTheSameOnEveryMachine) {
  const Graph graph = Read("graph @g(%x: f32[s0]) {\n  %y = aten.relu(%x) : f32[s0]\n  return %y\n}\n");
  // FNV-1a of the text above.
  EXPECT_EQ(HashText(graph), "330aefec89faa8ef");
}

TEST(Hash, IgnoresLocationsAndNothingElse) {
  const Graph graph = Read("graph @g(%x: f32[s0]) {\n  %y = aten.relu(%x) : f32[s0]\n  return %y\n}\n");
  EXPECT_EQ(Hash(graph), Hash(Read("graph @g(%x: f32[s0]) { %y = aten.relu(%x) : f32[s0] loc(\"m.py\":4, module \"a\", "
                                   "fx \"b\") return %y }")));
  for (const char* text : {"graph @h(%x: f32[s0]) { %y = aten.relu(%x) : f32[s0] return %y }",
                           "graph @g(%x: f32[s0]) { %y = aten.relu(%x) : f32[s0] return %x }",
                           "graph @g(%x: f32[s0] grad) { %y = aten.relu(%x) : f32[s0] return %y }",
                           "graph @g(%x: f32[s0]) form=joint { %y = aten.relu(%x) : f32[s0] return %y }"}) {
    EXPECT_NE(Hash(graph), Hash(Read(text))) << text;
  }
}

TEST(FirstDifference, NamesTheLines) {
  const Graph a = Read("graph @g(%x: f32[4]) { %y = aten.relu(%x) : f32[4] return %y }");
  const Graph b = Read("graph @g(%x: f32[4]) { %y = aten.neg(%x) : f32[4] loc(\"m.py\":1) return %y }");
  EXPECT_EQ(FirstDifference(a, a), (std::pair<std::string, std::string>()));
  EXPECT_EQ(FirstDifference(a, b),
            (std::pair<std::string, std::string>("%y = aten.relu(%x) : f32[4]", "%y = aten.neg(%x) : f32[4]")));
  const Graph c = Read("graph @g(%x: f32[4]) { return %x }");
  EXPECT_EQ(FirstDifference(a, c).second, "return %x");
}

}  // namespace
}  // namespace autosp
