#include <autosp/ir/parser.h>
#include <autosp/ir/printer.h>

#include <gtest/gtest.h>

#include <string>

namespace autosp {
namespace {

struct BadText {
  const char* text;
  const char* message;
};

std::string MessageOf(const char* text) {
  auto graph = Parse(text, "g.aspir");
  if (graph.ok()) return "no error";
  return graph.status().diagnostics()[0].message;
}

TEST(Parser, SaysWhatWasExpectedAndFound) {
  const BadText cases[] = {
      {"", R"(expected "mesh", "hints", "divisible" or "graph", found the end of the text at line 1, column 1)"},
      {"module @g", R"(expected "mesh", "hints", "divisible" or "graph", found "module" at line 1, column 1)"},
      {"hints {} hints {}", R"(a second "hints" at line 1, column 10)"},
      {"graph g() {}", R"(expected "@" before the name of a graph, found "g" at line 1, column 7)"},
      {"graph @g() { return", R"(expected an argument, found the end of the text at line 1, column 20)"},
      {"graph @g() {\n  x = f() : none\n}",
       R"(expected "%" before the name of a value, or "return", found "x" at line 2, column 3)"},
      {"graph @g() {\n  %x = f(%y) : none\n}", "%y is read before it is defined at line 2, column 10"},
      {"graph @g(%x: none, %x: none) { return }", "%x is defined twice at line 1, column 20"},
      {"graph @g() { %x = f() {a=1, a=2} : none return }", "argument a stands twice at line 1, column 29"},
      {"graph @g() { %x = f() return }",
       R"(expected ":" before the type of a value, found "return" at line 1, column 23)"},
      {"graph @g() { %x = f() : f33[2] return }",
       "expected a type (such as f32[2, s0], int(s0), float, boolean, none, opaque or a tuple), found \"f33\" at line "
       "1, "
       "column 25"},
      {"graph @g(%x: f32[2, s0@tp]) { return }", R"(layouts are over the axis "sp", not "tp" at line 1, column 24)"},
      {"graph @g(%x: f32[2@sp, s0@sp]) { return }", "a second dim of this shape is sharded at line 1, column 24"},
      {"graph @g(%x: f32[2]{half}) { return }",
       R"(unknown layout "half"; expected whole, sum:sp, max:sp or min:sp at line 1, column 21)"},
      {"graph @g() form=local { return }",
       "expected a form (captured, normalized, sharded, resharded, partitioned, lowered, joint or planned), found "
       "\"local\" "
       "at line 1, column 17"},
      {"graph @g() { %x = f(\"a) : none\n return }", "this string has no closing quote at line 1, column 21"},
      {"graph @g() { %x = f(\"\\q\") : none return }",
       R"(unknown escape; expected one of \" \\ \n \t \r \xHH at line 1, column 22)"},
      {"graph @g() { %x = f(99999999999999999999) : none return }",
       "the number does not fit into 64 bits at line 1, column 21"},
      {"graph @g() { %x = f(1e999) : none return }",
       "the number does not fit into a 64-bit float at line 1, column 21"},
      {"graph @g() { %x = f(3abc) : none return }", "this number runs into a word at line 1, column 21"},
      {"mesh @m = {\"sp\"=0} graph @g() { return }", "mesh axis \"sp\" has size 0, not 1 or more at line 1, column 12"},
      {"graph @g() { return } graph",
       R"(expected the end of the text after a graph, found "graph" at line 1, column 23)"},
      {"graph @g() { \x02 }",
       R"(expected "%" before the name of a value, or "return", found "\x02" at line 1, column 14)"},
  };
  for (const BadText& bad : cases) EXPECT_EQ(MessageOf(bad.text), bad.message) << bad.text;
}

TEST(Parser, ErrorsCarryTheSource) {
  auto graph = Parse("graph @g() {\n  %x = f(]\n}", "dir/g.aspir");
  ASSERT_FALSE(graph.ok());
  EXPECT_EQ(graph.status().ToString(),
            "error[ASP0401]: expected an argument, found \"]\" at line 2, column 10\n"
            "  --> dir/g.aspir:2\n"
            "  hint: see docs/ir.md for the grammar; see docs/errors.md#ASP0401");
}

TEST(Parser, BlanksAndCommentsDoNotMatter) {
  auto graph = Parse(
      "// head\r\ngraph@g(%x:f32[s0,2]{whole}grad tag=0)form=sharded{//c\n%y=\"f\"(%x,\"//\"){a=1}:none return%y,%x}");
  ASSERT_TRUE(graph.ok()) << graph.status().ToString();
  EXPECT_EQ(Print(*graph),
            "graph @g(%x: f32[s0, 2]{whole} grad tag=0) form=sharded {\n  %y = f(%x, \"//\") {a=1} : none\n"
            "  return %y, %x\n}\n");
}

TEST(Parser, NamesMayLookLikeWordsOfTheGrammar) {
  const char* text =
      "graph @graph(%return: int(max), %f32: none) {\n  %0 = none(%return, %f32) : int(max(max, 2))\n  return %0\n}\n";
  auto graph = Parse(text);
  ASSERT_TRUE(graph.ok()) << graph.status().ToString();
  EXPECT_EQ(Print(*graph), text);
}

}  // namespace
}  // namespace autosp
