#include <autosp/analysis/memory_profile.h>

#include <algorithm>

namespace autosp {
namespace {

class Simulation {
 public:
  Simulation(const JointView& view, const CheckpointChoice& choice) : view_(view), choice_(choice) {}

  MemoryProfile Run() {
    OrderForward();
    profile_.backward_begin = static_cast<int>(profile_.order.size());
    OrderBackward();
    CountMemory();
    return std::move(profile_);
  }

 private:
  // Appends `index` and all that it needs and is not done yet in the order of the program, as PyTorch's partitioner
  // does.
  template <typename F>
  void Schedule(int index, std::vector<bool>& done, const F& runs) {
    std::vector<int> stack{index}, found;
    while (!stack.empty()) {
      const int node = stack.back();
      stack.pop_back();
      if (done[node] || !runs(node)) continue;
      done[node] = true;
      found.push_back(node);
      stack.insert(stack.end(), view_[node].operands.begin(), view_[node].operands.end());
    }
    std::sort(found.begin(), found.end());
    profile_.order.insert(profile_.order.end(), found.begin(), found.end());
  }

  // The forward runs what its results and the kept values need, in the order of the program.
  void OrderForward() {
    std::vector<bool> needed(view_.size(), false);
    for (const int output : view_.forward_outputs()) needed[output] = true;
    for (int i = 0; i < view_.size(); ++i) needed[i] = needed[i] || choice_.keep[i] || view_[i].effect;
    for (int i = view_.size() - 1; i >= 0; --i) {
      if (!needed[i]) continue;
      for (const int operand : view_[i].operands) needed[operand] = true;
    }
    for (int i = 0; i < view_.size(); ++i) {
      if (needed[i] && view_[i].node->is_call() && view_[i].forward) profile_.order.push_back(i);
    }
  }

  void OrderBackward() {
    std::vector<bool> done(view_.size(), false);
    const auto runs = [&](int i) {
      return view_[i].node->is_call() && !choice_.keep[i] && !(view_[i].available && view_[i].forward);
    };
    std::vector<bool> needed(view_.size(), false);
    for (const int output : view_.backward_outputs()) needed[output] = true;
    for (int i = view_.size() - 1; i >= 0; --i) {
      if (!needed[i] || choice_.keep[i]) continue;
      for (const int operand : view_[i].operands) needed[operand] = true;
    }
    const auto reads_tangent = [&](int i) {
      return std::any_of(view_[i].operands.begin(), view_[i].operands.end(),
                         [&](int operand) { return view_[operand].node->tangent; });
    };
    int first = 0;
    while (first < view_.size() && !reads_tangent(first)) ++first;
    for (int i = first; i < view_.size(); ++i) {
      // What comes before, and what is computed again, waits for its first reader.
      if (needed[i] && !view_[i].forward && view_[i].node->is_call()) Schedule(i, done, runs);
    }
    for (const int output : view_.backward_outputs()) Schedule(output, done, runs);
  }

  // The memory that running `index` allocates: its own, or that of the elements of its tuple.
  std::vector<int> Allocated(int index) const {
    if (view_[index].storage == index && view_[index].node->op != "builtin.getitem") return {index};
    std::vector<int> elements;
    if (view_[index].storage >= 0) return elements;
    for (const int reader : view_[index].readers) {
      if (view_[reader].storage == reader && view_[reader].node->op == "builtin.getitem") elements.push_back(reader);
    }
    return elements;
  }

  void CountMemory() {
    const int steps = static_cast<int>(profile_.order.size());
    const int begin = profile_.backward_begin;
    std::vector<int> last_forward(view_.size(), -1), last_backward(view_.size(), -1);
    std::vector<bool> stays(view_.size(), false), kept(view_.size(), false);
    for (int step = 0; step < steps; ++step) {
      std::vector<int>& last = step < begin ? last_forward : last_backward;
      Touch(last, profile_.order[step], step);
      for (const int operand : view_[profile_.order[step]].operands) Touch(last, operand, step);
    }
    for (int i = 0; i < view_.size(); ++i) {
      if (!choice_.keep[i] || view_[i].storage < 0 || kept[view_[i].storage]) continue;
      kept[view_[i].storage] = true;
      if (!view_[view_[i].storage].returned) profile_.kept += view_[view_[i].storage].bytes;
    }
    for (const int output : view_.backward_outputs()) {
      if (view_[output].storage >= 0) stays[view_[output].storage] = true;
    }
    Walk(last_forward, last_backward, kept, stays);
  }

  void Touch(std::vector<int>& last, int index, int step) const {
    if (view_[index].storage >= 0) last[view_[index].storage] = step;
  }

  void Walk(const std::vector<int>& last_forward, const std::vector<int>& last_backward, const std::vector<bool>& kept,
            const std::vector<bool>& stays) {
    const int begin = profile_.backward_begin;
    const int steps = static_cast<int>(profile_.order.size());
    std::vector<std::vector<int>> freed(static_cast<std::size_t>(steps));  // After which step.
    for (int i = 0; i < view_.size(); ++i) {
      if (view_[i].storage != i || (!view_[i].node->is_call() && !view_[i].node->tangent)) continue;
      if (last_forward[i] >= 0 && !kept[i] && !view_[i].returned) freed[last_forward[i]].push_back(i);
      if (last_backward[i] >= 0 && !stays[i] && !view_[i].held && !(view_[i].returned && view_[i].forward)) {
        freed[last_backward[i]].push_back(i);
      }
    }
    std::vector<bool> alive(view_.size(), false);
    double live = 0;
    for (int step = 0; step < steps; ++step) {
      // Autograd hands over all tangents at once.
      for (int i = 0; step == begin && i < view_.size(); ++i) {
        if (!view_[i].node->tangent || view_[i].storage != i || (last_backward[i] < 0 && !view_[i].held)) continue;
        live += view_[i].bytes;
        alive[i] = true;
      }
      for (const int i : Allocated(profile_.order[step])) {
        // An element of a tuple that nobody takes goes with the tuple.
        if (alive[i] || (step < begin ? last_forward : last_backward)[i] < 0) continue;
        live += view_[i].bytes;
        alive[i] = true;
      }
      double& peak = step < begin ? profile_.forward_peak : profile_.backward_peak;
      const double held = live + view_[profile_.order[step]].workspace;
      peak = std::max(peak, held);
      if (held > profile_.peak) {
        profile_.peak = held;
        profile_.at = view_[profile_.order[step]].node;
      }
      for (const int i : freed[step]) {
        if (alive[i]) live -= view_[i].bytes;
        alive[i] = false;
      }
      profile_.live.push_back(live);
    }
  }

  const JointView& view_;
  const CheckpointChoice& choice_;
  MemoryProfile profile_;
};

}  // namespace

MemoryProfile SimulateMemory(const JointView& view, const CheckpointChoice& choice) {
  return Simulation(view, choice).Run();
}

}  // namespace autosp
