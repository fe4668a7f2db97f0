#include <autosp/runtime/exchange.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace autosp::runtime {
namespace {

using namespace std::chrono_literals;
using Tensors = std::vector<at::Tensor>;

// Runs `f` on every rank of an in-process group, each a thread, and collects the results.
template <typename F>
Tensors OnRanks(std::int64_t ranks, const F& f) {
  auto group = MakeInProcessGroup("test", ranks, 60s);
  Tensors results(static_cast<std::size_t>(ranks));
  std::vector<std::thread> threads;
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      const auto result = f(rank, *group[static_cast<std::size_t>(rank)]);
      EXPECT_TRUE(result.ok()) << (result.ok() ? "" : result.status().ToString());
      if (result.ok()) results[static_cast<std::size_t>(rank)] = *result;
    });
  }
  for (std::thread& thread : threads) thread.join();
  return results;
}

double Dot(const Tensors& a, const Tensors& b) {
  double total = 0;
  for (std::size_t rank = 0; rank < a.size(); ++rank) total += (a[rank] * b[rank]).sum().item<double>();
  return total;
}

Tensors Randoms(std::int64_t ranks, at::IntArrayRef shape) {
  Tensors tensors;
  for (std::int64_t rank = 0; rank < ranks; ++rank) tensors.push_back(at::randn(shape, at::kDouble));
  return tensors;
}

struct Case {
  std::vector<std::int64_t> whole;
  ShardedDim d, to;
};

const std::vector<Case>& Cases() {
  static const std::vector<Case> cases{
      {{2, 8, 4}, {1, 1, 8, 1}, {2, 1, 4, 1}}, {{2, 7, 5}, {1, 1, 7, 1}, {2, 1, 5, 1}},
      {{12, 9}, {0, 2, 3, 2}, {1, 3, 1, 3}},   {{9, 10}, {1, 1, 5, 2}, {0, 1, 9, 1}},
      {{30}, {0, 2, 5, 3}, {0, 10, 3, 1}},     {{30}, {0, 10, 3, 1}, {0, 2, 5, 3}},
      {{12}, {0, 1, 4, 3}, {0, 2, 3, 2}},      {{0, 3}, {0, 1, 0, 1}, {1, 1, 3, 1}},
  };
  return cases;
}

std::vector<std::int64_t> LocalShape(const Case& c, std::int64_t ranks) {
  std::vector<std::int64_t> shape = c.whole;
  shape[static_cast<std::size_t>(c.d.dim)] = c.d.major * CeilDiv(c.d.length, ranks) * c.d.minor;
  return shape;
}

using Op = std::function<Expected<at::Tensor>(const at::Tensor&, Communicator&)>;

// <T x, y> == <x, T* y> for the maps over all ranks: the defining property of an adjoint.
void ExpectAdjoint(std::int64_t ranks, at::IntArrayRef operand_shape, const Op& forward, const Op& backward,
                   const std::string& where) {
  const Tensors xs = Randoms(ranks, operand_shape);
  const auto at_rank = [](const Tensors& v, std::int64_t rank) { return v[static_cast<std::size_t>(rank)]; };
  const Tensors images = OnRanks(ranks, [&](std::int64_t r, Communicator& g) { return forward(at_rank(xs, r), g); });
  ASSERT_TRUE(images[0].defined()) << where;
  const Tensors ys = Randoms(ranks, images[0].sizes());
  const Tensors pulled = OnRanks(ranks, [&](std::int64_t r, Communicator& g) { return backward(at_rank(ys, r), g); });
  ASSERT_TRUE(pulled[0].defined()) << where;
  EXPECT_EQ(pulled[0].sizes(), operand_shape) << where;
  EXPECT_NEAR(Dot(images, ys), Dot(xs, pulled), 1e-10) << where;
}

TEST(ExchangeTest, EveryBackwardIsTheAdjoint) {
  at::manual_seed(3);
  for (const std::int64_t ranks : {1, 2, 3, 4}) {
    for (std::size_t i = 0; i < Cases().size(); ++i) {
      const Case& c = Cases()[i];
      const auto local = LocalShape(c, ranks);
      const std::string where = "case " + std::to_string(i) + ", ranks " + std::to_string(ranks);
      ExpectAdjoint(
          ranks, c.whole, [&](const auto& x, auto& g) { return ShardSlice(x, c.d, g); },
          [&](const auto& y, auto& g) { return ShardSliceBackward(y, c.d, g); }, where + " shard_slice");
      ExpectAdjoint(
          ranks, local, [&](const auto& x, auto& g) { return AllGather(x, c.d, g); },
          [&](const auto& y, auto& g) { return AllGatherBackward(y, c.d, g); }, where + " all_gather");
      ExpectAdjoint(
          ranks, c.whole, [&](const auto& x, auto& g) { return ReduceScatter(x, Reduction::kSum, c.d, g); },
          [&](const auto& y, auto& g) { return ReduceScatterBackward(y, c.d, g); }, where + " reduce_scatter");
      ExpectAdjoint(
          ranks, local, [&](const auto& x, auto& g) { return AllToAll(x, c.d, c.to, g); },
          [&](const auto& y, auto& g) { return AllToAllBackward(y, c.d, c.to, g); }, where + " all_to_all");
      ExpectAdjoint(
          ranks, local, [&](const auto& x, auto& g) { return MaskPadding(x, c.d, 0, g); },
          [&](const auto& y, auto& g) { return MaskPadding(y, c.d, 0, g); }, where + " mask_padding");
    }
  }
}

TEST(ExchangeTest, AllToAllIsGatherThenSlice) {
  at::manual_seed(4);
  for (const std::int64_t ranks : {1, 2, 3, 4}) {
    for (const Case& c : Cases()) {
      const Tensors xs = Randoms(ranks, LocalShape(c, ranks));
      const auto x = [&](std::int64_t rank) { return xs[static_cast<std::size_t>(rank)]; };
      const Tensors fused =
          OnRanks(ranks, [&](std::int64_t rank, Communicator& g) { return AllToAll(x(rank), c.d, c.to, g); });
      const Tensors steps = OnRanks(ranks, [&](std::int64_t rank, Communicator& g) -> Expected<at::Tensor> {
        AUTOSP_ASSIGN_OR_RETURN(const at::Tensor whole, AllGather(x(rank), c.d, g));
        return ShardSlice(whole, c.to, g);
      });
      for (std::size_t rank = 0; rank < fused.size(); ++rank) EXPECT_TRUE(at::equal(fused[rank], steps[rank]));
    }
  }
}

TEST(ExchangeTest, ResultsAreFreshAndContiguous) {
  const at::Tensor x = at::randn({4, 3}).t();
  const Tensors results = OnRanks(1, [&](std::int64_t, Communicator& g) { return ShardSlice(x, {0, 1, 3, 1}, g); });
  EXPECT_FALSE(results[0].is_alias_of(x));
  EXPECT_TRUE(results[0].is_contiguous());
}

TEST(CommunicatorTest, AnAbsentRankIsATimeoutAndTheGroupStaysFailed) {
  auto group = MakeInProcessGroup("lonely", 2, 50ms);
  const at::Tensor x = at::ones({3});
  const auto first = group[0]->AllReduce(x, Reduction::kSum);
  ASSERT_FALSE(first.ok());
  EXPECT_EQ(first.status().diagnostics()[0].code, DiagnosticCode::kRankTimeout);
  EXPECT_EQ(first.status().diagnostics()[0].message,
            "all_reduce did not finish on group \"lonely\", rank 0 of 2, 12 bytes from this rank, deadline 50 ms");
  EXPECT_EQ(first.status().diagnostics()[0].notes[0], "the library says: 1 of 2 ranks came to the barrier");
  const auto second = group[1]->AllReduce(x, Reduction::kSum);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().diagnostics()[0].code, DiagnosticCode::kCollectiveFailed);
}

TEST(CommunicatorTest, RefusesAnOperandWithoutOneEntryPerRank) {
  auto group = MakeInProcessGroup("test", 2, 50ms);
  const auto result = group[0]->AllToAll(at::ones({3, 2}));
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.status().diagnostics()[0].message,
            "all_to_all on group \"test\" of 2 ranks needs one leading entry per rank, got 3");
}

TEST(CommunicatorTest, AnUnknownGroupIsNamed) {
  const auto group = ResolveC10dCommunicator("nope", at::kCPU);
  ASSERT_FALSE(group.ok());
  EXPECT_EQ(group.status().diagnostics()[0].code, DiagnosticCode::kNoProcessGroup);
}

}  // namespace
}  // namespace autosp::runtime
