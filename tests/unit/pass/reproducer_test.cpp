#include <autosp/pass/reproducer.h>

#include "autosp_pipeline.h"
#include "toy_passes.h"

#include <autosp/ir/printer.h>
#include <autosp/sharding/op_rules.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace autosp {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class ReproducerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    directory_ = std::filesystem::temp_directory_path() /
                 (std::string("autosp_") + info->name() + "_" + std::to_string(getpid()));
    std::filesystem::remove_all(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  static std::string Read(const std::filesystem::path& path) {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  }
  // The path in "reproducer: autosp-opt --run-reproducer PATH".
  static std::string PathInNote(const Status& status) {
    const std::string note = status.diagnostics().back().notes.back();
    EXPECT_THAT(note, StartsWith("reproducer: "));
    return note.substr(note.rfind(' ') + 1);
  }

  std::filesystem::path directory_;
};

TEST_F(ReproducerTest, TextFormReturns) {
  const Reproducer written{.pipeline = "a,b",
                           .options = {.sequence_parallel_size = 4, .outputs = "gathered"},
                           .verify_each = false,
                           .rules = "my.op(x): (*) -> (*)\n",
                           .error = "error[ASP0501]: first\n  note: second\n",
                           .graph = kToyGraph};
  const auto read = ParseReproducer(written.ToText(), "text");
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_EQ(read->pipeline, written.pipeline);
  EXPECT_EQ(read->options, written.options);
  EXPECT_EQ(read->verify_each, written.verify_each);
  EXPECT_EQ(read->rules, written.rules);
  EXPECT_EQ(read->error, written.error);
  const auto graph = Parse(read->graph, "text");
  ASSERT_TRUE(graph.ok()) << graph.status().ToString();
  EXPECT_EQ(Print(*graph), Print(ToyGraph()));
}

TEST_F(ReproducerTest, RefusesAFileWithoutAPipeline) {
  const auto read = ParseReproducer(kToyGraph, "toy.aspir");
  ASSERT_FALSE(read.ok());
  EXPECT_THAT(read.status().diagnostics()[0].message, StartsWith("toy.aspir is no reproducer"));
  EXPECT_FALSE(ParseReproducer("// pipeline: a\n// options: nonsense=1\n", "x").ok());
}

TEST_F(ReproducerTest, HoldsTheGraphBeforeTheFailingPassAndTheRestOfThePipeline) {
  std::vector<std::unique_ptr<Pass>> passes;
  passes.push_back(FormOnly("normalize", Form::kCaptured, Form::kNormalized));
  passes.push_back(
      Toy("breaker", Form::kNormalized, Form::kNormalized, [](Graph& graph, PassContext&) -> Expected<bool> {
        graph.Find("y")->args[0] = graph.Find("z");
        return true;
      }));
  passes.push_back(FormOnly("shard", Form::kNormalized, Form::kSharded));
  auto rules = RuleTable::BuiltIn();
  ASSERT_TRUE(rules.ok());
  ASSERT_TRUE(rules->AddText("my.op(x): (*) -> (*)", "test").ok());
  PassContext context{.options = {.on_gather = "warn"}, .rules = &*rules, .remarks = {}};
  Graph graph = ToyGraph();
  PassManager manager(std::move(passes),
                      {.reproducer_dir = (directory_ / "deep").string(), .disabled = {}, .stop_after = ""});
  const Status status = manager.Run(graph, context);
  ASSERT_FALSE(status.ok());

  const std::string path = PathInNote(status);
  EXPECT_THAT(path, StartsWith((directory_ / "deep" / "autosp-reproducer-").string()));
  const auto read = ParseReproducer(Read(path), path);
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_EQ(read->pipeline, "breaker,shard");
  EXPECT_EQ(read->options.on_gather, "warn");
  EXPECT_EQ(read->rules, "my.op(x): (*) -> (*)\n");
  EXPECT_THAT(read->error, StartsWith("error[ASP0501]: "));
  const auto before = Parse(read->graph, path);
  ASSERT_TRUE(before.ok()) << before.status().ToString();
  EXPECT_EQ(before->form(), Form::kNormalized);
  EXPECT_EQ(Print(*before), Print(graph));
  // Nothing else is left behind.
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory_ / "deep"), {}), 1);
}

TEST_F(ReproducerTest, ReplayFailsInTheSameWay) {
  // A graph that no input is tagged in is refused by a real pass, some passes into the pipeline.
  Graph graph = ToyGraph();
  CompileOptions options;
  options.pass.sequence_parallel_size = 2;
  options.manager.reproducer_dir = directory_.string();
  const auto failed = compile(graph, options);
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.status().diagnostics()[0].code, DiagnosticCode::kNoTaggedInput);
  const std::string path = PathInNote(failed.status());

  const auto read = ParseReproducer(Read(path), path);
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_THAT(read->pipeline, StartsWith("seed-shardings,"));
  auto replayed = Parse(read->graph, path);
  ASSERT_TRUE(replayed.ok()) << replayed.status().ToString();
  CompileOptions again;
  again.pass = read->options;
  again.pipeline = read->pipeline;
  const auto failed_again = compile(*replayed, again);
  ASSERT_FALSE(failed_again.ok());
  EXPECT_EQ(failed_again.status().ToString() + "\n", read->error);
}

TEST_F(ReproducerTest, AFailureToWriteIsANote) {
  std::ofstream(directory_) << "a file where the folder should be";
  Graph graph = ToyGraph();
  CompileOptions options;
  options.pass.sequence_parallel_size = 2;
  options.manager.reproducer_dir = directory_.string();
  const auto failed = compile(graph, options);
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.status().diagnostics()[0].code, DiagnosticCode::kNoTaggedInput);
  EXPECT_THAT(failed.status().diagnostics().back().notes.back(), StartsWith("no reproducer: cannot write "));
}

}  // namespace
}  // namespace autosp
