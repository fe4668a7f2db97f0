#include <autosp/runtime/communicator_table.h>

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

namespace autosp::runtime {
namespace {

using namespace std::chrono_literals;

at::Tensor AllReduceOp(const at::Tensor& x, const std::string& group) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("autosp_rt::all_reduce", "")
                             .typed<at::Tensor(const at::Tensor&, std::string, std::string)>();
  return op.call(x, "sum", group);
}

TEST(CommunicatorTableTest, OpsOnThreadsFindTheirOwnEndsByTheGraphsName) {
  auto ends = MakeInProcessGroup("sp", 3, 20s);
  std::vector<std::thread> ranks;
  for (std::int64_t rank = 0; rank < 3; ++rank) {
    ranks.emplace_back([&, rank] {
      const auto registration =
          RegisterCommunicator("sp", std::move(ends[static_cast<std::size_t>(rank)]), RegistrationScope::kThread);
      ASSERT_TRUE(registration.ok());
      EXPECT_EQ(FindGroupPosition("sp")->rank, rank);
      EXPECT_TRUE(AllReduceOp(at::ones({2}) * (rank + 1), "sp").equal(at::ones({2}) * 6));
    });
  }
  for (std::thread& each : ranks) each.join();
  EXPECT_FALSE(FindGroupPosition("sp").ok());
}

TEST(CommunicatorTableTest, ANameIsTakenUntilItsRegistrationEnds) {
  auto ends = MakeInProcessGroup("g", 2, 1s);
  {
    const auto first = RegisterCommunicator("g", std::move(ends[0]));
    ASSERT_TRUE(first.ok());
    const auto second = RegisterCommunicator("g", std::move(ends[1]));
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.status().diagnostics().front().message,
              "a communicator is already registered under the name \"g\"");
    // Every thread sees it.
    std::thread([] { EXPECT_TRUE(FindCommunicator("g", at::kCPU).ok()); }).join();
  }
  const auto gone = FindCommunicator("g", at::kCPU);
  ASSERT_FALSE(gone.ok());
  EXPECT_EQ(gone.status().diagnostics().front().code, DiagnosticCode::kNoProcessGroup);
}

TEST(CommunicatorTableTest, ACallInFlightOutlivesTheRegistration) {
  auto ends = MakeInProcessGroup("g", 1, 1s);
  std::shared_ptr<Communicator> held;
  {
    const auto registration = RegisterCommunicator("g", std::move(ends[0]));
    ASSERT_TRUE(registration.ok());
    held = *FindCommunicator("g", at::kCPU);
  }
  EXPECT_TRUE(held->AllReduce(at::ones({2}), Reduction::kSum).ok());
}

}  // namespace
}  // namespace autosp::runtime
