#pragma once

#include <cstdint>
#include <vector>

namespace autosp {

// Maximum flow and minimum cut in a directed network with integer capacities (Dinic 1970). Deterministic: the result
// depends on the order of AddNode and AddEdge calls only.
//
// Capacities may be raised between calls of Solve(); the flow found so far stays and only the difference is searched.
// That is how a family of cuts over a growing parameter is found (Gallo, Grigoriadis, Tarjan 1989): where only
// capacities of edges out of the source grow, the sink sides of the minimum cuts shrink, each inside the one before.
class MaxFlow {
 public:
  using Capacity = std::int64_t;
  // More than any sum of finite capacities may be; an edge of this capacity is in no minimum cut if there is another.
  static constexpr Capacity kInfinite = Capacity{1} << 60;

  explicit MaxFlow(int nodes) : first_(nodes, -1) {}

  int AddNode();
  // The number of the edge, for RaiseCapacity().
  int AddEdge(int from, int to, Capacity capacity);
  // `capacity` is at least the present one.
  void RaiseCapacity(int edge, Capacity capacity);

  // The value of a maximum flow from `source` to `sink`; at least kInfinite / 2 when no cut is finite.
  Capacity Solve(int source, int sink);
  // After Solve(): the smallest sink side of all minimum cuts, the nodes from which the sink can still be reached.
  std::vector<bool> SinkSide(int sink) const;

 private:
  struct Edge {
    int to, next;
    Capacity residual;
  };
  bool BuildLevels(int source, int sink);
  Capacity Augment(int source, int sink);

  std::vector<int> first_;
  std::vector<Edge> edges_;  // 2i and 2i+1 are an edge and its reverse.
  std::vector<Capacity> capacity_;
  std::vector<int> level_, current_;
  Capacity value_ = 0;
};

}  // namespace autosp
