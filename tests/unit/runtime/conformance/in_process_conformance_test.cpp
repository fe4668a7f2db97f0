#include "threads.h"

#include <gtest/gtest.h>

namespace autosp::runtime::conformance {
namespace {

class InProcessConformanceTest : public testing::TestWithParam<int> {};

TEST_P(InProcessConformanceTest, EveryCase) {
  const int ranks = GetParam();
  for (const Case& each : Cases()) {
    // Faults take time and other ranks.
    if (each.deadline < std::chrono::seconds(60) && ranks != 3) continue;
    const auto problems = RunOnThreads(each, [&](const std::string& name, std::chrono::milliseconds deadline) {
      return MakeInProcessGroup(name, ranks, deadline);
    });
    for (const std::string& problem : problems) ADD_FAILURE() << each.name << ": " << problem;
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, InProcessConformanceTest, testing::Values(1, 2, 3, 4));

}  // namespace
}  // namespace autosp::runtime::conformance
