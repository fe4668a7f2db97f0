// A bounded part of what autosp_program_fuzz does, and that it can fail.
#include <ATen/Parallel.h>
#include <autosp/ir/parser.h>

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "mutation.h"
#include "program_conditioning.h"

namespace autosp::test {
namespace {

class OneThread : public ::testing::Environment {
  void SetUp() override { at::set_num_threads(1); }
};
[[maybe_unused]] const auto* const kOneThread = ::testing::AddGlobalTestEnvironment(new OneThread);

RuleTable Rules() { return RuleTable::BuiltIn().value(); }

TEST(ProgramFuzz, EqualOrRefused) {
  const RuleTable rules = Rules();
  int exchanging = 0;
  constexpr int kPrograms = 500;
  for (std::uint64_t seed = 1; seed <= kPrograms; ++seed) {
    const Program program = RandomProgram(seed, rules);
    const Verdict verdict = CheckProgram(program);
    if (verdict.outcome == Outcome::kFailed) {
      const Program small = Shrink(program);
      ADD_FAILURE() << verdict.kind << " at seed " << seed << "\n"
                    << verdict.text << small.Text() << "\n"
                    << CheckProgram(small).text;
      return;
    }
    ASSERT_FALSE(verdict.kind == "does not run whole" || verdict.kind == "no inputs") << program.Text() << verdict.text;
    if (verdict.outcome == Outcome::kEqual && verdict.collectives > 0) ++exchanging;
  }
  // Programs that are refused, or never cut, prove nothing.
  EXPECT_GT(exchanging, kPrograms * 6 / 10);
}

// A row that lies lets a cut sequence pass through a running sum. The verifier reads the same row and believes it: only
// the comparison can see it.
TEST(ProgramFuzz, AWrongRuleIsFound) {
  const RuleTable rules = Rules();
  CheckOptions options;
  options.extra_rules = "aten.cumsum(self, dim, dtype): (b, s, d) -> (b, s, d)";
  options.verify = false;
  for (std::uint64_t seed = 1; seed <= 2000; ++seed) {
    const Program program = RandomProgram(seed, rules);
    bool uses_it = false;
    for (const auto& node : program.graph.nodes()) uses_it = uses_it || node->is_call("aten.cumsum");
    if (!uses_it) continue;
    const Verdict verdict = CheckProgram(program, options);
    if (verdict.outcome != Outcome::kFailed || verdict.kind != "different") continue;
    const Program small = Shrink(program, options);
    EXPECT_EQ(CheckProgram(small, options).kind, "different");
    EXPECT_LT(small.graph.size(), program.graph.size());
    EXPECT_NE(small.Text().find("aten.cumsum"), std::string::npos) << small.Text();
    EXPECT_EQ(CheckProgram(small).outcome, Outcome::kEqual) << small.Text();
    return;
  }
  FAIL() << "no program of 2000 shows the wrong rule";
}

// A norm over two copies of one number has a gradient of zero, and computes rounding: that is no difference.
TEST(ProgramFuzz, RoundingIsNoDifference) {
  Program program;
  Expected<Graph> graph = Parse(R"(
hints {s0=2}
graph @g(%ids: i64[2, s0] tag=1, %w: f64[7, 2] grad, %norm: f64[2] grad) {
  %x = aten.embedding(%w, %ids) : f64[2, s0, 2] grad
  %one = aten.slice.Tensor(%x, 2, 0, 1) : f64[2, s0, 1] grad
  %same = aten.cat([%one, %one], 2) : f64[2, s0, 2] grad
  %y = aten.layer_norm(%same, [2], %norm, none, 0.01) : f64[2, s0, 2] grad
  return %y
})");
  ASSERT_TRUE(graph.ok());
  program.graph = std::move(*graph);
  program.ranks = 3;
  program.options.sequence_parallel_size = 3;
  program.options.outputs = "gathered";
  program.runs = {{{"s0", 2}}};
  const Verdict verdict = CheckProgram(program);
  EXPECT_EQ(verdict.outcome, Outcome::kEqual) << verdict.text;
}

// sin(10^8 y) turns one unit in the last place of a weight into about 10^-8 of its gradient. As much is excused of that
// gradient alone: not more, not of the program without the factor, not of an output.
TEST(ProgramFuzz, RoundingExplainsWhatTheProgramEnlarges) {
  const auto explains = [](const std::string& factor, const std::string& what, double error) {
    auto graph = Parse(
        "hints {s0=4}\ngraph @g(%ids: i64[2, s0] tag=1, %w: f64[7, 2] grad) {\n"
        "  %x = aten.embedding(%w, %ids) : f64[2, s0, 2] grad\n"
        "  %y = aten.mul.Tensor(%x, " +
        factor +
        ") : f64[2, s0, 2] grad\n"
        "  %z = aten.sin(%y) : f64[2, s0, 2] grad\n"
        "  %l = aten.sum(%z) : f64[] grad\n"
        "  return %l\n}\n");
    const Program program{std::move(*graph), 2, {}, {}, false, 0};
    CompareOptions options;
    options.spmd.only_marked_leaves = true;
    options.smallest_gradient = 1e-3;
    const Comparison comparison{1e-10, {{what, error, ""}}, ""};
    return RoundingExplains(program, *MakeProgramInputs(program.graph, {{"s0", 4}}, 1), comparison, options);
  };
  EXPECT_TRUE(explains("100000000.0", "gradient of output 0 for %w", 1e-9));
  EXPECT_FALSE(explains("100000000.0", "gradient of output 0 for %w", 1e-5));
  EXPECT_FALSE(explains("1.0", "gradient of output 0 for %w", 1e-9));
  EXPECT_FALSE(explains("100000000.0", "output 0 on rank 0", 1e-9));
}

TEST(ProgramFuzz, SeedsAreStable) {
  const RuleTable rules = Rules();
  EXPECT_EQ(RandomProgram(7, rules).Text(), RandomProgram(7, rules).Text());
  EXPECT_NE(RandomProgram(7, rules).Text(), RandomProgram(8, rules).Text());
}

Program FromFile(const std::filesystem::path& path, int ranks, std::int64_t length) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  Program program;
  Expected<Graph> graph = Parse(text.str(), path.string());
  EXPECT_TRUE(graph.ok()) << path;
  program.graph = std::move(*graph);
  program.ranks = ranks;
  program.options.sequence_parallel_size = ranks;
  program.runs = {program.graph.hints()};
  for (auto& [symbol, size] : program.runs[0]) size = symbol == "s0" ? length : size;
  program.graph.hints() = program.runs[0];
  return program;
}

TEST(Mutants, OfThePrograms) {
  MutationCount total;
  for (const auto& entry : std::filesystem::directory_iterator(AUTOSP_SPMD_PROGRAMS)) {
    for (const auto& [ranks, length] : {std::pair(2, 8), std::pair(4, 7)}) {
      total += CheckMutants(FromFile(entry.path(), ranks, length), false);
    }
  }
  EXPECT_EQ(total.escaped, 0) << total.first_escape;
  EXPECT_GT(total.caught, 1000);
  EXPECT_GT(total.mutants, total.caught);  // Some change nothing that matters.
}

TEST(Mutants, OfRandomPrograms) {
  const RuleTable rules = Rules();
  MutationCount total;
  for (std::uint64_t seed = 1; seed <= 5; ++seed) total += CheckMutants(RandomProgram(seed, rules), false);
  EXPECT_EQ(total.escaped, 0) << total.first_escape;
  EXPECT_GT(total.caught, 1000);
}

// The judge can judge: most of what was caught really computes something else.
TEST(Mutants, ThatAreCaughtChangeResults) {
  const MutationCount count =
      CheckMutants(FromFile(std::filesystem::path(AUTOSP_SPMD_PROGRAMS) / "decoder.aspir", 2, 8), true);
  EXPECT_EQ(count.escaped, 0) << count.first_escape;
  EXPECT_GT(count.changed, count.mutants / 2);
}

}  // namespace
}  // namespace autosp::test
