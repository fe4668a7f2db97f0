#include <autosp/support/max_flow.h>

#include <algorithm>

namespace autosp {

int MaxFlow::AddNode() {
  first_.push_back(-1);
  return static_cast<int>(first_.size()) - 1;
}

int MaxFlow::AddEdge(int from, int to, Capacity capacity) {
  const int edge = static_cast<int>(capacity_.size());
  edges_.push_back({to, first_[from], capacity});
  first_[from] = 2 * edge;
  edges_.push_back({from, first_[to], 0});
  first_[to] = 2 * edge + 1;
  capacity_.push_back(capacity);
  return edge;
}

void MaxFlow::RaiseCapacity(int edge, Capacity capacity) {
  edges_[2 * edge].residual += capacity - capacity_[edge];
  capacity_[edge] = capacity;
}

bool MaxFlow::BuildLevels(int source, int sink) {
  level_.assign(first_.size(), -1);
  level_[source] = 0;
  std::vector<int> queue{source};
  for (std::size_t head = 0; head < queue.size(); ++head) {
    for (int e = first_[queue[head]]; e >= 0; e = edges_[e].next) {
      if (edges_[e].residual <= 0 || level_[edges_[e].to] >= 0) continue;
      level_[edges_[e].to] = level_[queue[head]] + 1;
      queue.push_back(edges_[e].to);
    }
  }
  return level_[sink] >= 0;
}

// One augmenting path along the levels, found without recursion: paths are as long as the program.
MaxFlow::Capacity MaxFlow::Augment(int source, int sink) {
  std::vector<int> path;
  int node = source;
  while (node != sink) {
    int& e = current_[node];
    while (e >= 0 && (edges_[e].residual <= 0 || level_[edges_[e].to] != level_[node] + 1)) e = edges_[e].next;
    if (e >= 0) {
      path.push_back(e);
      node = edges_[e].to;
      continue;
    }
    level_[node] = -1;  // A dead end.
    if (path.empty()) return 0;
    node = edges_[path.back() ^ 1].to;
    path.pop_back();
  }
  Capacity least = kInfinite;
  for (const int e : path) least = std::min(least, edges_[e].residual);
  for (const int e : path) {
    edges_[e].residual -= least;
    edges_[e ^ 1].residual += least;
  }
  return least;
}

MaxFlow::Capacity MaxFlow::Solve(int source, int sink) {
  // Where only infinite edges are left to cut, more flow tells nothing and could overflow.
  while (value_ < kInfinite / 2 && BuildLevels(source, sink)) {
    current_ = first_;
    while (value_ < kInfinite / 2) {
      const Capacity pushed = Augment(source, sink);
      if (pushed == 0) break;
      value_ += pushed;
    }
  }
  return value_;
}

std::vector<bool> MaxFlow::SinkSide(int sink) const {
  std::vector<bool> reaches(first_.size(), false);
  reaches[sink] = true;
  std::vector<int> queue{sink};
  for (std::size_t head = 0; head < queue.size(); ++head) {
    for (int e = first_[queue[head]]; e >= 0; e = edges_[e].next) {
      const int from = edges_[e].to;  // Of the reverse edge; the edge itself is e ^ 1.
      if (reaches[from] || edges_[e ^ 1].residual <= 0) continue;
      reaches[from] = true;
      queue.push_back(from);
    }
  }
  return reaches;
}

}  // namespace autosp
