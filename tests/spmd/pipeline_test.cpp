// The whole pipeline on toy programs: what comes out is run on simulated ranks and compared with the unsharded program,
// in value and in every gradient; then single collectives are broken, and the verifier must see it.
#include <autosp/ir/printer.h>
#include <autosp/sharding/op_rules.h>

#include <autosp_pipeline.h>

#include <fstream>
#include <sstream>

#include "spmd_check.h"

namespace autosp::testing {
namespace {

Graph ReadProgram(const std::string& name) {
  std::ifstream file("programs/" + name + ".aspir");
  std::stringstream text;
  text << file.rdbuf();
  Expected<Graph> graph = Parse(text.str(), name);
  EXPECT_TRUE(graph.ok()) << (graph.ok() ? "" : graph.status().ToString());
  return graph.ok() ? std::move(*graph) : Graph();
}

struct Case {
  std::string program;
  int ranks;
  std::int64_t length;  // s0; programs with fixed sizes ignore it
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.program << "_p" << c.ranks << "_s" << c.length;
}

// `kept`: takes what the verifier compares with.
Expected<Graph> Partition(const Graph& whole, const Case& c, const std::string& pipeline, PassOptions options = {},
                          std::shared_ptr<const Graph>* kept = nullptr) {
  Graph graph = whole.Clone();
  if (graph.hints().contains("s0")) graph.hints()["s0"] = c.length;
  CompileOptions compile_options;
  compile_options.pipeline = pipeline;
  compile_options.pass = std::move(options);
  compile_options.pass.sequence_parallel_size = c.ranks;
  Expected<CompileResult> result = compile(graph, compile_options);
  if (!result.ok()) return result.status();
  if (kept != nullptr) *kept = result->whole;
  return graph;
}

SpmdCheck CheckOf(const Case& c) {
  SpmdCheck check;
  check.inputs.sizes["s0"] = c.length;
  check.compare.tolerance = 1e-12;
  check.compare.spmd.only_marked_leaves =
      c.program == "losses" || c.program == "head_bias";  // Class weights may not have a gradient.
  return check;
}

class PipelineTest : public ::testing::TestWithParam<Case> {};

TEST_P(PipelineTest, PartitionedEqualsWhole) {
  const Case c = GetParam();
  const Graph whole = ReadProgram(c.program);
  const Expected<Graph> partitioned = Partition(whole, c, "autosp-no-lower");
  ASSERT_TRUE(partitioned.ok()) << partitioned.status().ToString();
  EXPECT_TRUE(EqualsWhole(whole, *partitioned, c.ranks, CheckOf(c))) << Print(*partitioned);
}

TEST_P(PipelineTest, LoweredEqualsWhole) {
  const Case c = GetParam();
  const Graph whole = ReadProgram(c.program);
  for (const char* collectives : {"functional", "fused"}) {
    PassOptions options;
    options.collectives = collectives;
    const Expected<Graph> lowered = Partition(whole, c, "autosp", options);
    ASSERT_TRUE(lowered.ok()) << lowered.status().ToString();
    EXPECT_TRUE(EqualsWhole(whole, *lowered, c.ranks, CheckOf(c))) << collectives << "\n" << Print(*lowered);
  }
}

TEST_P(PipelineTest, GatheredOutputsEqualWhole) {
  const Case c = GetParam();
  const Graph whole = ReadProgram(c.program);
  PassOptions options;
  options.outputs = "gathered";
  options.attention = "gather";
  const Expected<Graph> partitioned = Partition(whole, c, "autosp-no-lower", options);
  ASSERT_TRUE(partitioned.ok()) << partitioned.status().ToString();
  EXPECT_TRUE(EqualsWhole(whole, *partitioned, c.ranks, CheckOf(c))) << Print(*partitioned);
}

// Each collective in turn is taken out, then each is done twice. Whatever the verifier lets pass must be right.
TEST_P(PipelineTest, VerifierSeesEveryBrokenCollective) {
  const Case c = GetParam();
  const Graph whole = ReadProgram(c.program);
  std::shared_ptr<const Graph> kept;
  const Expected<Graph> partitioned = Partition(whole, c, "autosp-no-lower", {}, &kept);
  ASSERT_TRUE(partitioned.ok()) << partitioned.status().ToString();
  std::vector<std::string> collectives;
  for (const auto& node : partitioned->nodes()) {
    if (node->is_call() && node->op.starts_with("autosp.")) collectives.push_back(node->name);
  }
  if (c.program == "embedding_by_frequency" || c.program == "summed_at_once") {
    GTEST_SKIP() << c.program << " needs the whole sequence from its first op on: nothing to break";
  }
  ASSERT_FALSE(collectives.empty()) << "nothing was cut";
  int caught = 0;
  for (const std::string& name : collectives) {
    for (const bool twice : {false, true}) {
      Graph mutant = partitioned->Clone();
      Node* node = mutant.Find(name);
      if (twice) {
        Node* again = mutant.InsertAfter(node, name + "_again", node->op, {node}, node->type);
        again->attributes = node->attributes;
        mutant.ReplaceUses(node, again, again);
      } else {
        mutant.ReplaceUses(node, node->args[0].node());
      }
      CompileOptions options;
      options.pipeline = "verify-partitioned";
      options.pass.sequence_parallel_size = c.ranks;
      options.whole = kept;
      if (!compile(mutant, options).ok()) {
        ++caught;
      } else {
        EXPECT_TRUE(EqualsWhole(whole, mutant, c.ranks, CheckOf(c)))
            << "not seen: " << name << (twice ? " twice" : " removed");
      }
    }
  }
  EXPECT_GT(caught, 0);
}

// A plan made for one length serves others: halos that then reach over several ranks, ranks that hold padding alone.
TEST(PipelineLengths, NeighboursOfAnyLength) {
  const Graph whole = ReadProgram("neighbours");
  for (const int ranks : {2, 3, 4}) {
    for (const char* pipeline : {"autosp-no-lower", "autosp"}) {
      const Expected<Graph> plan = Partition(whole, {"neighbours", ranks, 41}, pipeline);
      ASSERT_TRUE(plan.ok()) << plan.status().ToString();
      EXPECT_EQ(Print(*plan).find("autosp.all_gather(%h)"), std::string::npos) << Print(*plan);
      for (const std::int64_t length : {4, 5, 7, 8, 40, 41}) {
        const Case run{"neighbours", ranks, length};
        EXPECT_TRUE(EqualsWhole(whole, *plan, ranks, CheckOf(run))) << run << " " << pipeline;
      }
    }
  }
}

// A plan that was made knowing that the bias is long enough, run with a sequence for which it is not: no rank may
// compute anything. Gathered attention adds a cut bias, exchanged attention a whole one.
TEST(PipelineLengths, TooLongForTheBiasFails) {
  const Graph whole = ReadProgram("longest_bias");
  for (const char* attention : {"ulysses", "gather"}) {
    for (const char* collectives : {"functional", "fused"}) {
      PassOptions options;
      options.attention = attention;
      options.collectives = collectives;
      const Expected<Graph> plan = Partition(whole, {"longest_bias", 2, 8}, "autosp", options);
      ASSERT_TRUE(plan.ok()) << plan.status().ToString();
      for (const std::int64_t length : {64, 66}) {
        const Expected<SpmdInputs> inputs = MakeRandomInputs(whole, {.sizes = {{"s0", length}}});
        ASSERT_TRUE(inputs.ok()) << inputs.status().ToString();
        EXPECT_EQ(SpmdInterpreter(whole, 1).Run(*inputs).ok(), length <= 64);
        EXPECT_EQ(SpmdInterpreter(*plan, 2, {.check_types = false}).Run(*inputs).ok(), length <= 64)
            << attention << " " << collectives << " " << length;
      }
    }
  }
}

std::vector<Case> AllCases() {
  std::vector<Case> cases;
  for (const char* program : {"decoder", "head_bias", "masked_attention", "mixing", "eager_attention",
                              "scores_read_twice", "longest_bias", "two_batch_symbols", "embedding_by_frequency",
                              "losses", "filled_in_parts", "sum_of_sizes", "frozen_attention"}) {
    for (const auto& [ranks, length] :
         std::vector<std::pair<int, std::int64_t>>{{2, 8}, {4, 8}, {2, 7}, {4, 7}, {4, 41}, {4, 3}}) {
      cases.push_back({program, ranks, length});
    }
  }
  for (const auto& [ranks, length] :
       std::vector<std::pair<int, std::int64_t>>{{2, 8}, {2, 7}, {3, 41}, {4, 40}, {4, 41}}) {
    cases.push_back({"neighbours", ranks, length});  // Shorter ones are not worth a halo.
  }
  cases.push_back({"summed_at_once", 2, 8});
  cases.push_back({"equal_dims", 2, 8});
  cases.push_back({"equal_dims", 4, 8});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Programs, PipelineTest, ::testing::ValuesIn(AllCases()), [](const auto& info) {
  std::ostringstream name;
  name << info.param;
  return name.str();
});

}  // namespace
}  // namespace autosp::testing
