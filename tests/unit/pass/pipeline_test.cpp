#include "autosp_pipeline.h"

#include "toy_passes.h"

#include <autosp/ir/hash.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace autosp {
namespace {

using ::testing::SizeIs;

TEST(Pipeline, EveryRowAgreesWithItsPass) {
  std::set<std::string> names;
  for (const PassInfo& info : AllPasses()) {
    const std::unique_ptr<Pass> pass = info.make();
    EXPECT_STREQ(pass->name(), info.name);
    EXPECT_EQ(pass->form_in(), info.form_in) << info.name;
    EXPECT_EQ(pass->form_out(), info.form_out) << info.name;
    EXPECT_STREQ(pass->summary(), info.summary) << info.name;
    EXPECT_TRUE(names.insert(info.name).second) << info.name << " twice";
  }
}

TEST(Pipeline, RowsFollowOneAnother) {
  Form form = AllPasses().front().form_in;
  for (const PassInfo& info : AllPasses()) {
    if (info.form_in == Form::kJoint) {  // The framework's autograd stands between.
      EXPECT_EQ(form, Form::kLowered) << info.name;
      form = Form::kJoint;
    }
    const std::unique_ptr<Pass> pass = info.make();
    EXPECT_TRUE(pass->Accepts(form)) << info.name;
    form = pass->FormAfter(form);
  }
  EXPECT_EQ(form, Form::kPlanned);
}

TEST(Pipeline, NamesAreReadWithDashesOrUnderscores) {
  const auto passes = MakePipeline("seed_shardings, eliminate-dead-nodes");
  ASSERT_TRUE(passes.ok());
  ASSERT_THAT(*passes, SizeIs(2));
  EXPECT_STREQ((*passes)[0]->name(), "seed-shardings");
  EXPECT_THAT(MakePipeline("").value(), SizeIs(0));
  EXPECT_THAT(MakePipeline("autosp").value(), SizeIs(AllPasses().size() - 1));
  EXPECT_THAT(MakePipeline("autosp-no-lower").value(), SizeIs(AllPasses().size() - 2));
}

TEST(Pipeline, AllUnknownNamesAreListed) {
  const auto passes = MakePipeline("seed-sharding,eliminate-dead-nodes,nonsense");
  ASSERT_FALSE(passes.ok());
  ASSERT_THAT(passes.status().diagnostics(), SizeIs(2));
  EXPECT_EQ(passes.status().diagnostics()[0].code, DiagnosticCode::kUnknownPass);
  EXPECT_EQ(passes.status().diagnostics()[0].message,
            "no pass is named \"seed-sharding\"; did you mean \"seed-shardings\"");
  EXPECT_EQ(passes.status().diagnostics()[1].message, "no pass is named \"nonsense\"");
}

TEST(Pipeline, MeshAndOptionMustAgree) {
  Graph graph = ToyGraph();
  graph.mesh() = {{"dp", 2}, {"sp", 4}};
  CompileOptions options;
  options.pipeline = "eliminate-dead-nodes";
  options.pass.sequence_parallel_size = 2;
  const auto differing = compile(graph, options);
  ASSERT_FALSE(differing.ok());
  EXPECT_EQ(differing.status().diagnostics()[0].code, DiagnosticCode::kBadOption);
  EXPECT_EQ(differing.status().diagnostics()[0].message,
            "sequence_parallel_size is 2, but the mesh axis \"sp\" of @toy has 4 ranks");
  options.pass.sequence_parallel_size = 1;
  EXPECT_TRUE(compile(graph, options).ok());
  EXPECT_EQ(graph.axis_size(), 4);
  Graph bare = ToyGraph();
  options.pass.sequence_parallel_size = 8;
  EXPECT_TRUE(compile(bare, options).ok());
  EXPECT_EQ(bare.axis_size(), 8);
}

TEST(Pipeline, TheResultTellsThePlan) {
  Graph graph = ToyGraph();
  CompileOptions options;
  options.pipeline = "eliminate-dead-nodes";
  std::vector<std::string> seen;
  options.observer = [&](const Pass& pass, const Graph&, bool) { seen.emplace_back(pass.name()); };
  const auto result = compile(graph, options);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->plan_hash, HashText(graph));
  EXPECT_FALSE(result->partitioned);
  EXPECT_THAT(result->timings, SizeIs(1));
  EXPECT_THAT(seen, SizeIs(1));
}

TEST(Pipeline, BadUserRulesAreRefused) {
  Graph graph = ToyGraph();
  CompileOptions options;
  options.pipeline = "eliminate-dead-nodes";
  options.extra_rules = "nonsense";
  const auto result = compile(graph, options);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.status().diagnostics()[0].code, DiagnosticCode::kBadRule);
}

}  // namespace
}  // namespace autosp
