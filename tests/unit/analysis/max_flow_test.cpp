#include <autosp/support/max_flow.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace autosp {
namespace {

struct Edge {
  int from, to;
  MaxFlow::Capacity capacity;
};

// The least capacity over all sink sides; `smallest` gets the smallest such side.
MaxFlow::Capacity LeastCut(int nodes, const std::vector<Edge>& edges, unsigned* smallest) {
  MaxFlow::Capacity least = MaxFlow::kInfinite;
  for (unsigned side = 0; side < (1U << nodes); ++side) {
    if ((side & 1U) != 0 || (side & 2U) == 0) continue;  // Node 0 is the source, node 1 the sink.
    MaxFlow::Capacity capacity = 0;
    for (const Edge& edge : edges) {
      if (((side >> edge.from) & 1U) == 0 && ((side >> edge.to) & 1U) == 1) capacity += edge.capacity;
    }
    if (capacity < least) {
      least = capacity;
      *smallest = side;
    } else if (capacity == least) {
      *smallest &= side;  // Minimum cuts are closed under intersection.
    }
  }
  return least;
}

unsigned Bits(const std::vector<bool>& side) {
  unsigned bits = 0;
  for (std::size_t i = 0; i < side.size(); ++i) bits |= static_cast<unsigned>(side[i]) << i;
  return bits;
}

TEST(MaxFlow, EqualsTheLeastCutAlsoAfterCapacitiesGrew) {
  std::mt19937 random(7);
  for (int round = 0; round < 500; ++round) {
    const int nodes = 2 + static_cast<int>(random() % 7);
    std::vector<Edge> edges;
    MaxFlow network(nodes);
    for (int i = 0; i < 3 * nodes; ++i) {
      const int from = static_cast<int>(random() % nodes), to = static_cast<int>(random() % nodes);
      if (from == to) continue;
      edges.push_back({from, to, static_cast<MaxFlow::Capacity>(random() % 9)});
      network.AddEdge(from, to, edges.back().capacity);
    }
    unsigned previous = ~0U;
    for (int growth = 0; growth < 3; ++growth) {
      unsigned smallest = 0;
      const MaxFlow::Capacity least = LeastCut(nodes, edges, &smallest);
      EXPECT_EQ(network.Solve(0, 1), least);
      EXPECT_EQ(Bits(network.SinkSide(1)), smallest);
      EXPECT_EQ(smallest & previous, smallest) << "the sink sides are not nested";
      previous = smallest;
      for (std::size_t i = 0; i < edges.size(); ++i) {
        if (edges[i].from != 0) continue;
        edges[i].capacity += static_cast<MaxFlow::Capacity>(random() % 5);
        network.RaiseCapacity(static_cast<int>(i), edges[i].capacity);
      }
    }
  }
}

TEST(MaxFlow, DeepPathsNeedNoRecursion) {
  const int nodes = 200000;
  MaxFlow network(nodes);
  for (int i = 2; i + 1 < nodes; ++i) network.AddEdge(i, i + 1, 5);
  network.AddEdge(0, 2, MaxFlow::kInfinite);
  network.AddEdge(nodes - 1, 1, 3);
  EXPECT_EQ(network.Solve(0, 1), 3);
}

TEST(MaxFlow, ManyInfinitePathsDoNotOverflow) {
  MaxFlow flow(2);
  for (int i = 0; i < 40; ++i) {
    const int node = flow.AddNode();
    flow.AddEdge(0, node, MaxFlow::kInfinite);
    flow.AddEdge(node, 1, MaxFlow::kInfinite);
  }
  EXPECT_GE(flow.Solve(0, 1), MaxFlow::kInfinite / 2);
}

}  // namespace
}  // namespace autosp
