#include "random_graph.h"

#include <autosp/ir/hash.h>
#include <autosp/ir/parser.h>
#include <autosp/ir/printer.h>
#include <autosp/ir/verifier.h>

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace autosp::test {
namespace {

void ExpectEqualGraphs(const Graph& a, const Graph& b) {
  EXPECT_EQ(a.name(), b.name());
  EXPECT_EQ(a.form(), b.form());
  EXPECT_EQ(a.mesh(), b.mesh());
  EXPECT_EQ(a.hints(), b.hints());
  EXPECT_EQ(a.divisible(), b.divisible());
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    const Node &left = *a.nodes()[i], &right = *b.nodes()[i];
    EXPECT_EQ(left.kind, right.kind);
    EXPECT_EQ(left.name, right.name);
    EXPECT_EQ(left.op, right.op);
    EXPECT_TRUE(left.type == right.type) << Print(left) << "\n" << Print(right);
    EXPECT_EQ(left.provenance, right.provenance);
    EXPECT_EQ(left.seq_dim, right.seq_dim);
    EXPECT_EQ(left.recompute, right.recompute);
    EXPECT_EQ(left.choice, right.choice);
    EXPECT_EQ(left.written, right.written);
    const auto operands_left = left.operands(), operands_right = right.operands();
    ASSERT_EQ(operands_left.size(), operands_right.size());
    for (std::size_t j = 0; j < operands_left.size(); ++j) EXPECT_EQ(operands_left[j]->name, operands_right[j]->name);
  }
}

TEST(TextForm, RandomGraphsRoundTrip) {
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    const Graph graph = RandomGraph(seed);
    const std::string text = Print(graph);
    ASSERT_TRUE(Verify(graph).ok()) << "seed " << seed << "\n" << Verify(graph).ToString() << "\n" << text;
    auto parsed = Parse(text);
    ASSERT_TRUE(parsed.ok()) << "seed " << seed << "\n" << parsed.status().ToString() << "\n" << text;
    ASSERT_EQ(Print(*parsed), text) << "seed " << seed;
    ExpectEqualGraphs(graph, *parsed);
    const Graph clone = graph.Clone();
    ASSERT_EQ(Print(clone), text);
    ASSERT_EQ(Hash(clone), Hash(*parsed));
    if (HasFailure()) FAIL() << "seed " << seed << "\n" << text;
  }
}

std::string Mutate(Random& random, std::string text) {
  static const char* const kTokens[] = {"(",   ")",    "[",    "]",  "{",      "}",     "%",     "@",
                                        "\"",  "\\",   "-",    "*",  "=",      "slice", "graph", "f32[",
                                        "nan", "loc(", "1e9",  ":",  ",",      "//",    "+",     "0",
                                        "inf", "mul(", "max(", "\n", "return", "grad",  ".",     "99999999999"};
  for (std::int64_t edits = 1 + random.Below(4); edits > 0 && !text.empty(); --edits) {
    const auto at = static_cast<std::size_t>(random.Below(static_cast<std::int64_t>(text.size())));
    const auto length = static_cast<std::size_t>(random.Below(30));
    switch (random.Below(5)) {
      case 0:
        text[at] = static_cast<char>(random.Below(256));
        break;
      case 1:
        text.erase(at, length);
        break;
      case 2:
        text.insert(at, kTokens[random.Below(std::size(kTokens))]);
        break;
      case 3:
        text.insert(
            at, text.substr(static_cast<std::size_t>(random.Below(static_cast<std::int64_t>(text.size()))), length));
        break;
      default:
        text.resize(at);
    }
  }
  return text;
}

TEST(TextForm, MutatedTextIsReadOrRefused) {
  Random random(7);
  int accepted = 0;
  for (std::uint64_t i = 0; i < 5000; ++i) {
    const std::string text = Mutate(random, Print(RandomGraph(i % 500)));
    auto parsed = Parse(text, "mutated.aspir");
    if (!parsed.ok()) {
      ASSERT_EQ(parsed.status().diagnostics().size(), 1u);
      const Diagnostic& error = parsed.status().diagnostics()[0];
      ASSERT_EQ(error.code, DiagnosticCode::kParseError);
      ASSERT_GT(error.location.line, 0);
      ASSERT_NE(error.message.find(" at line "), std::string::npos) << error.message;
      continue;
    }
    ++accepted;
    // What was read prints to text that is read back the same.
    const std::string printed = Print(*parsed);
    auto again = Parse(printed);
    ASSERT_TRUE(again.ok()) << again.status().ToString() << "\n" << printed;
    ASSERT_EQ(Print(*again), printed);
    (void)Verify(*parsed).ok();
  }
  EXPECT_GT(accepted, 100);  // The mutations are small enough to reach past the first character.
}

TEST(TextForm, HostileTextEndsSoon) {
  const std::string deep(100000, '['), parens(100000, '(');
  EXPECT_FALSE(Parse("graph @g() { %x = f(" + deep).ok());
  EXPECT_FALSE(ParseType(parens).ok());
  EXPECT_FALSE(Dim::Parse(parens).ok());
  std::string sums, product = "1", nested;
  for (int i = 0; i < 3000; ++i) sums += "s" + std::to_string(i) + "+";
  EXPECT_FALSE(Dim::Parse(sums + "1").ok());
  // 2^60 terms if it were multiplied out.
  for (int i = 0; i < 60; ++i) product += "*(a" + std::to_string(i) + "+b" + std::to_string(i) + ")";
  auto dim = Dim::Parse(product);
  ASSERT_TRUE(dim.ok());
  EXPECT_EQ(*Dim::Parse(dim->ToString()), *dim);
  // Every level would double the text of the one below.
  nested = "a";
  for (int i = 0; i < 40; ++i) nested = "ceildiv((" + nested + ")*(b + c), 4)";
  dim = Dim::Parse(nested);
  ASSERT_TRUE(dim.ok());
  EXPECT_LT(dim->ToString().size(), 100000u);
  EXPECT_EQ(*Dim::Parse(dim->ToString()), *dim);
}

}  // namespace
}  // namespace autosp::test
