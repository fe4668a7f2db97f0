// The NCCL back end: its logic over a stand-in on every machine, the library itself where there is a GPU.
#include "fake_nccl.h"
#include "threads.h"

#include <autosp/runtime/nccl_communicator.h>

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include <future>
#include <thread>

namespace autosp::runtime {
namespace {

using namespace std::chrono_literals;
using conformance::Case;
using Ends = std::vector<std::unique_ptr<Communicator>>;

// All ends of a group over the stand-in; `ranks` of them come.
Ends MakeFakeGroup(const NcclFunctions& nccl, const std::string& name, std::int64_t ranks,
                   std::chrono::milliseconds deadline) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  std::vector<std::future<Expected<std::unique_ptr<Communicator>>>> making;
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    making.push_back(std::async(std::launch::async, [&, rank] {
      return MakeNcclCommunicatorOver(nccl, fake_nccl::MakeQueue(), name, rank, ranks, at::kCPU, store, deadline);
    }));
  }
  Ends ends;
  for (auto& each : making) {
    auto made = each.get();
    EXPECT_TRUE(made.ok()) << (made.ok() ? "" : made.status().ToString());
    ends.push_back(made.ok() ? std::move(made.value()) : nullptr);
  }
  return ends;
}

class NcclOverStandInTest : public testing::Test {
 protected:
  NcclOverStandInTest() {
    fake_nccl::TheScript().all_gather_result = ncclSuccess;
    fake_nccl::TheScript().async_result = ncclSuccess;
    fake_nccl::TheScript().aborts = 0;
    fake_nccl::TheScript().grouped_sends = 0;
    fake_nccl::TheScript().all_to_alls = 0;
  }

  const NcclFunctions native_ = fake_nccl::Functions(true);
  const NcclFunctions grouped_ = fake_nccl::Functions(false);
};

TEST_F(NcclOverStandInTest, ConformsWithGroupedSendsAndReceives) {
  for (const Case& each : conformance::Cases()) {
    const auto problems = conformance::RunOnThreads(
        each, [&](const std::string& name, auto deadline) { return MakeFakeGroup(grouped_, name, 3, deadline); });
    for (const std::string& problem : problems) ADD_FAILURE() << each.name << ": " << problem;
  }
  EXPECT_GT(fake_nccl::TheScript().grouped_sends, 0);
  EXPECT_EQ(fake_nccl::TheScript().all_to_alls, 0);
  EXPECT_GT(fake_nccl::TheScript().aborts, 0);
}

TEST_F(NcclOverStandInTest, ConformsWithNativeAllToAll) {
  if (native_.all_to_all == nullptr) GTEST_SKIP() << "this NCCL has no ncclAlltoAll";
  for (const Case& each : conformance::Cases()) {
    if (each.breaks_groups) continue;
    const auto problems = conformance::RunOnThreads(
        each, [&](const std::string& name, auto deadline) { return MakeFakeGroup(native_, name, 2, deadline); });
    for (const std::string& problem : problems) ADD_FAILURE() << each.name << ": " << problem;
  }
  EXPECT_EQ(fake_nccl::TheScript().grouped_sends, 0);
  EXPECT_GT(fake_nccl::TheScript().all_to_alls, 0);
}

// Runs `call`, which fails, on both ends; rank 0's answer.
Expected<at::Tensor> FailsOnBoth(Ends& ends, const std::function<Expected<at::Tensor>(Communicator&)>& call) {
  auto other = std::async(std::launch::async, [&] { return call(*ends[1]); });
  auto own = call(*ends[0]);
  const auto others = other.get();
  EXPECT_FALSE(others.ok());
  return own;
}

TEST_F(NcclOverStandInTest, AnErrorNamesOpGroupRankBytesAndNcclsText) {
  Ends ends = MakeFakeGroup(native_, "g", 2, 20s);
  fake_nccl::TheScript().all_gather_result = ncclInvalidArgument;
  const auto gather = [](Communicator& group) { return group.AllGather(at::ones({3})); };
  const auto result = FailsOnBoth(ends, gather);
  ASSERT_FALSE(result.ok());
  const Diagnostic& diagnostic = result.status().diagnostics().front();
  EXPECT_EQ(diagnostic.code, DiagnosticCode::kCollectiveFailed);
  EXPECT_EQ(diagnostic.message,
            "all_gather failed on group \"g\", rank 0 of 2, 12 bytes from this rank, deadline 20000 ms");
  EXPECT_EQ(diagnostic.notes.front(), "the library says: ncclAllGather: invalid argument (the detail)");
  EXPECT_EQ(fake_nccl::TheScript().aborts, 2);
  const auto later = gather(*ends[0]);
  ASSERT_FALSE(later.ok());
  EXPECT_EQ(later.status().diagnostics().front().notes.front(),
            "the library says: the communicator is aborted: an earlier collective of this group failed");
}

TEST_F(NcclOverStandInTest, AnErrorThatComesLaterBelongsToTheCallInFlight) {
  Ends ends = MakeFakeGroup(native_, "g", 2, 20s);
  fake_nccl::TheScript().async_result = ncclRemoteError;
  const auto result =
      FailsOnBoth(ends, [](Communicator& group) { return group.AllReduce(at::ones({3}), Reduction::kSum); });
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.status().diagnostics().front().notes.front(),
            "the library says: NCCL: remote process exited (the detail)");
}

TEST_F(NcclOverStandInTest, ARankThatDoesNotConnectIsATimeout) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  const auto made = MakeNcclCommunicatorOver(native_, fake_nccl::MakeQueue(), "alone", 0, 2, at::kCPU, store, 200ms);
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.status().diagnostics().front().code, DiagnosticCode::kRankTimeout);
  EXPECT_EQ(made.status().diagnostics().front().message,
            "NCCL does not connect group \"alone\", rank 0 of 2, deadline 200 ms");
  EXPECT_EQ(fake_nccl::TheScript().aborts, 1);
  const auto other =
      MakeNcclCommunicatorOver(native_, fake_nccl::MakeQueue(), "no rank 0", 1, 2, at::kCPU, store, 200ms);
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.status().diagnostics().front().code, DiagnosticCode::kRankTimeout);
}

TEST_F(NcclOverStandInTest, RefusesWhatCannotWork) {
  Ends ends = MakeFakeGroup(native_, "g", 2, 20s);
  const auto dtype = ends[0]->AllReduce(at::ones({3}, at::kShort), Reduction::kSum);
  ASSERT_FALSE(dtype.ok());
  EXPECT_EQ(dtype.status().diagnostics().front().notes.front(), "the library says: NCCL does not reduce Short");
  const auto device = ends[0]->AllGather(at::empty({3}, at::TensorOptions().device(at::kMeta)));
  ASSERT_FALSE(device.ok());
  EXPECT_EQ(device.status().diagnostics().front().notes.front(),
            "the library says: the group is on cpu, the tensor on meta");

  const auto store = c10::make_intrusive<c10d::HashStore>();
  for (const auto& made :
       {MakeNcclCommunicatorOver(native_, fake_nccl::MakeQueue(), "g", 2, 2, at::kCPU, store, 1s).status(),
        MakeNcclCommunicatorOver(native_, fake_nccl::MakeQueue(), "g", 0, 2, at::kCPU, nullptr, 1s).status(),
        MakeNcclCommunicator("g", 0, 2, at::kCPU, store, 1s).status(),
        MakeNcclCommunicator("g", 0, 2, c10::Device(at::kCUDA, 99), store, 1s).status()}) {
    ASSERT_FALSE(made.ok());
    EXPECT_EQ(made.diagnostics().front().code, DiagnosticCode::kBadOption) << made.ToString();
  }
}

int Gpus() {
  // Nothing here needs a symbol of it, so the linker leaves it out.
  static void* const library = dlopen(AUTOSP_TORCH_CUDA_LIBRARY, RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr || !c10::impl::hasDeviceGuardImpl(at::kCUDA)) return 0;
  return c10::impl::getDeviceGuardImpl(at::kCUDA)->deviceCount();
}

TEST(NcclOnGpuTest, ReportsItsVersion) { EXPECT_NE(NcclVersion(), "unknown"); }

// NCCL refuses two ranks on one GPU, and Communicator does not trouble a library for one rank, so the functions are
// called as the communicator calls them.
TEST(NcclOnGpuTest, OneRankMovesBytesOnItsOwnStream) {
  if (Gpus() < 1) GTEST_SKIP() << "no GPU on this machine";
  const c10::Device device(at::kCUDA, 0);
  const auto store = c10::make_intrusive<c10d::HashStore>();
  const auto made = MakeNcclCommunicator("one", 0, 1, device, store, 60s);
  ASSERT_TRUE(made.ok()) << made.status().ToString();

  const NcclFunctions& nccl = LinkedNccl();
  const auto queue = MakeCudaQueue(device);
  ncclUniqueId id;
  ncclComm_t comm = nullptr;
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  ASSERT_EQ(nccl.get_unique_id(&id), ncclSuccess);
  ASSERT_EQ(nccl.init_rank(&comm, 1, id, 0, &config), ncclSuccess);
  const at::Tensor x = at::arange(1000, at::TensorOptions().device(device).dtype(at::kFloat));
  const at::Tensor result = at::zeros_like(x);
  queue->Enter({result, x});
  ASSERT_EQ(nccl.all_reduce(x.const_data_ptr(), result.data_ptr(), 1000, ncclFloat32, ncclSum, comm, queue->stream()),
            ncclSuccess);
  queue->Leave();
  while (!queue->Done()) std::this_thread::yield();
  EXPECT_TRUE(at::equal(x.cpu(), result.cpu()));
  EXPECT_EQ(nccl.destroy(comm), ncclSuccess);
}

TEST(NcclOnGpuTest, TwoGpusAgreeWithIndexing) {
  if (Gpus() < 2) GTEST_SKIP() << "fewer than two GPUs on this machine: " << Gpus();
  const auto store = c10::make_intrusive<c10d::HashStore>();
  std::vector<std::thread> ranks;
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    ranks.emplace_back([&, rank] {
      const c10::Device device(at::kCUDA, static_cast<c10::DeviceIndex>(rank));
      const auto group = MakeNcclCommunicator("two", rank, 2, device, store, 60s);
      ASSERT_TRUE(group.ok()) << group.status().ToString();
      const auto sample = [](std::int64_t q) { return conformance::Sample({2, 1000}, at::kFloat, q); };
      const at::Tensor x = sample(rank).to(device);
      EXPECT_TRUE((*group)->AllToAll(x)->cpu().equal(at::stack({sample(0)[rank], sample(1)[rank]})));
      EXPECT_TRUE((*group)->AllGather(x)->cpu().equal(at::stack({sample(0), sample(1)})));
      EXPECT_TRUE((*group)->AllReduce(x, Reduction::kSum)->cpu().equal(sample(0) + sample(1)));
      EXPECT_TRUE((*group)->ReduceScatter(x, Reduction::kMax)->cpu().equal(at::maximum(sample(0), sample(1))[rank]));
    });
  }
  for (std::thread& each : ranks) each.join();
}

}  // namespace
}  // namespace autosp::runtime
