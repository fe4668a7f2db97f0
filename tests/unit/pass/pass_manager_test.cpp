#include <autosp/pass/pass_manager.h>

#include "toy_passes.h"

#include <autosp/ir/hash.h>
#include <autosp/ir/printer.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace autosp {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

using Passes = std::vector<std::unique_ptr<Pass>>;

template <typename... P>
Passes List(P... passes) {
  Passes list;
  (list.push_back(std::move(passes)), ...);
  return list;
}

// Runs once and returns the diagnostics; checks that a failure leaves the graph alone.
std::vector<Diagnostic> Failure(Passes passes, PassManagerOptions options = {}) {
  Graph graph = ToyGraph();
  const std::string before = Print(graph);
  PassContext context;
  PassManager manager(std::move(passes), std::move(options));
  const Status status = manager.Run(graph, context);
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(Print(graph), before);
  return status.diagnostics();
}

// x + y becomes y + x.
Expected<bool> SwapOperands(Graph& graph, PassContext&) {
  std::swap(graph.Find("z")->args[0], graph.Find("z")->args[1]);
  return true;
}

TEST(PassManager, RunsInOrderAndReports) {
  Graph graph = ToyGraph();
  PassContext context;
  std::vector<std::string> seen;
  PassManager manager(List(FormOnly("normalize", Form::kCaptured, Form::kNormalized),
                           Toy("swap", Form::kNormalized, Form::kNormalized, SwapOperands)));
  manager.set_observer([&](const Pass& pass, const Graph&, bool changed) {
    seen.push_back(std::string(pass.name()) + (changed ? " changed" : " unchanged"));
  });
  const Status status = manager.Run(graph, context);
  ASSERT_TRUE(status.ok()) << status.ToString();
  EXPECT_THAT(seen, ElementsAre("normalize unchanged", "swap changed"));
  EXPECT_EQ(graph.form(), Form::kNormalized);
  ASSERT_THAT(manager.timings(), SizeIs(2));
  EXPECT_EQ(manager.timings()[1].pass, "swap");
  EXPECT_TRUE(manager.timings()[1].changed);
  EXPECT_EQ(manager.timings()[1].nodes, graph.size());
}

TEST(PassManager, RefusesAWrongOrderBeforeAnythingRuns) {
  bool ran = false;
  const auto spy = [&](Graph&, PassContext&) -> Expected<bool> {
    ran = true;
    return false;
  };
  const auto diagnostics = Failure(List(Toy("first", Form::kCaptured, Form::kCaptured, spy),
                                        FormOnly("late", Form::kSharded, Form::kResharded),
                                        FormOnly("early", Form::kNormalized, Form::kSharded)));
  EXPECT_FALSE(ran);
  ASSERT_THAT(diagnostics, SizeIs(2));
  EXPECT_EQ(diagnostics[0].code, DiagnosticCode::kPassOrder);
  EXPECT_EQ(diagnostics[0].message,
            "the pass \"late\" takes the form sharded, but \"first\" before it gives form captured");
  EXPECT_EQ(diagnostics[1].message,
            "the pass \"early\" takes the form normalized, but \"late\" before it gives form resharded");
}

TEST(PassManager, RefusesAGraphInAnotherForm) {
  const auto diagnostics = Failure(List(FormOnly("late", Form::kSharded, Form::kResharded)));
  ASSERT_THAT(diagnostics, SizeIs(1));
  EXPECT_EQ(diagnostics[0].code, DiagnosticCode::kPassOrder);
  EXPECT_EQ(diagnostics[0].message, "the pass \"late\" takes the form sharded, but the graph @toy is in form captured");
}

TEST(PassManager, CatchesAChangeThatIsHidden) {
  const auto diagnostics = Failure(
      List(Toy("liar", Form::kCaptured, Form::kCaptured, [](Graph& graph, PassContext& context) -> Expected<bool> {
        return SwapOperands(graph, context).ok() ? false : true;
      })));
  ASSERT_THAT(diagnostics, SizeIs(1));
  EXPECT_EQ(diagnostics[0].code, DiagnosticCode::kChangedBit);
  EXPECT_THAT(diagnostics[0].message,
              HasSubstr("the pass \"liar\" reports no change, but the hash of the graph went from"));
  ASSERT_THAT(diagnostics[0].notes, SizeIs(1));
  EXPECT_THAT(diagnostics[0].notes[0], HasSubstr("aten.add.Tensor(%x, %y)"));
}

TEST(PassManager, CatchesAChangeHiddenBehindANewForm) {
  const auto diagnostics = Failure(
      List(Toy("liar", Form::kCaptured, Form::kNormalized, [](Graph& graph, PassContext& context) -> Expected<bool> {
        graph.set_form(Form::kNormalized);
        return SwapOperands(graph, context).ok() ? false : true;
      })));
  ASSERT_THAT(diagnostics, SizeIs(1));
  EXPECT_EQ(diagnostics[0].code, DiagnosticCode::kChangedBit);
}

TEST(PassManager, CatchesAChangeThatDidNotHappen) {
  const auto diagnostics = Failure(List(
      Toy("boaster", Form::kCaptured, Form::kCaptured, [](Graph&, PassContext&) -> Expected<bool> { return true; })));
  ASSERT_THAT(diagnostics, SizeIs(1));
  EXPECT_EQ(diagnostics[0].code, DiagnosticCode::kChangedBit);
  EXPECT_THAT(diagnostics[0].message, HasSubstr("reports a change, but the hash of the graph is still"));
}

TEST(PassManager, CatchesABrokenGraph) {
  const auto diagnostics =
      Failure(List(Toy("breaker", Form::kCaptured, Form::kCaptured, [](Graph& graph, PassContext&) -> Expected<bool> {
        graph.Find("y")->args[0] = graph.Find("z");  // Reads what stands after it.
        return true;
      })));
  ASSERT_THAT(diagnostics, SizeIs(1));
  EXPECT_EQ(diagnostics[0].code, DiagnosticCode::kInvalidGraph);
  EXPECT_EQ(diagnostics[0].notes.back(), "found after the pass \"breaker\", in form captured");
}

TEST(PassManager, CatchesAFormThatWasNotPromised) {
  const auto diagnostics = Failure(List(
      Toy("lost", Form::kCaptured, Form::kNormalized, [](Graph&, PassContext&) -> Expected<bool> { return false; })));
  ASSERT_THAT(diagnostics, SizeIs(1));
  EXPECT_EQ(diagnostics[0].message, "the pass \"lost\" left the graph in form captured, its contract is normalized");
}

TEST(PassManager, ABrokenInputIsNotBlamedOnAPass) {
  Graph graph = ToyGraph();
  graph.Find("y")->args[0] = graph.Find("z");
  PassContext context;
  PassManager manager(List(FormOnly("innocent", Form::kCaptured, Form::kCaptured)));
  const Status status = manager.Run(graph, context);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.diagnostics()[0].notes.back(), "found before the first pass, in form captured");
}

TEST(PassManager, ARefusalKeepsItsDiagnosticsAndDropsItsRemarks) {
  Graph graph = ToyGraph();
  PassContext context;
  PassManager manager(
      List(Toy("refuser", Form::kCaptured, Form::kCaptured, [](Graph& g, PassContext& c) -> Expected<bool> {
        c.remarks.push_back({"refuser", "%y", "decided", {}});
        EXPECT_TRUE(SwapOperands(g, c).ok());
        return Diagnostic{DiagnosticCode::kNoRule, "no rule for aten.mul", {}, "", {}, ""};
      })));
  const Status status = manager.Run(graph, context);
  ASSERT_THAT(status.diagnostics(), SizeIs(1));
  EXPECT_EQ(status.diagnostics()[0].code, DiagnosticCode::kNoRule);
  EXPECT_THAT(context.remarks, SizeIs(0));
  EXPECT_EQ(Hash(graph), Hash(ToyGraph()));
}

TEST(PassManager, StopsAfterAndSkips) {
  Graph graph = ToyGraph();
  PassContext context;
  PassManager manager(List(Toy("swap-a", Form::kCaptured, Form::kCaptured, SwapOperands),
                           FormOnly("normalize", Form::kCaptured, Form::kNormalized),
                           FormOnly("shard", Form::kNormalized, Form::kSharded)),
                      {.verify_each = true, .reproducer_dir = "", .disabled = {"swap_a"}, .stop_after = "normalize"});
  const Status status = manager.Run(graph, context);
  ASSERT_TRUE(status.ok()) << status.ToString();
  ASSERT_THAT(manager.timings(), SizeIs(1));
  EXPECT_EQ(graph.form(), Form::kNormalized);
}

TEST(PassManager, RefusesUnknownNamesAndPassesThatAreNeeded) {
  const auto diagnostics = Failure(
      List(FormOnly("normalize", Form::kCaptured, Form::kNormalized)),
      {.verify_each = true, .reproducer_dir = "", .disabled = {"normalize", "nothing"}, .stop_after = "normalise"});
  ASSERT_THAT(diagnostics, SizeIs(3));
  EXPECT_EQ(diagnostics[0].message, "disabled names the pass \"nothing\", which is not in this pipeline");
  EXPECT_EQ(diagnostics[1].message,
            "stop_after names the pass \"normalise\", which is not in this pipeline; did you mean \"normalize\"");
  EXPECT_EQ(diagnostics[2].code, DiagnosticCode::kPassOrder);
  EXPECT_THAT(diagnostics[2].message, HasSubstr("cannot be disabled: it takes the form captured to normalized"));
}

}  // namespace
}  // namespace autosp
