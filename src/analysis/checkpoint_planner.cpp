#include <autosp/analysis/checkpoint_planner.h>

#include <autosp/support/max_flow.h>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace autosp {
namespace {

constexpr double kSpread = 1e-3;  // How much dearer the last node's second is than the first's.
constexpr int kGridSteps = 36, kBisections = 15;
constexpr double kFirstExponent = 18;  // mu = 2^18 ... 2^54 bytes per second of recomputation.

// What the structure of a policy demands beyond costs.
enum class Base : std::uint8_t { kFree, kLayerInputs, kNone, kFull, kSac };

class CutFamily {
 public:
  CutFamily(const JointView& view, Base base)
      : view_(&view),
        base_(base),
        largest_(static_cast<double>(MaxFlow::kInfinite) / 8 / (view.size() + 1)),
        network_(2) {
    in_.assign(view.size(), -1);
    out_.assign(view.size(), -1);
    recompute_edge_.assign(view.size(), -1);
    forced_tuple_.assign(view.size(), false);
    for (int i = 0; i < view.size(); ++i) {
      const JointValue& value = view[i];
      if (!value.forward || !value.node->is_call() || value.available) continue;
      in_[i] = network_.AddNode();
      out_[i] = network_.AddNode();
    }
    for (int i = 0; i < view.size(); ++i) {
      if (view[i].tuple >= 0 && IsForcedItself(i)) forced_tuple_[view[i].tuple] = true;
    }
    for (int i = 0; i < view.size(); ++i) Connect(i);
  }

  double MuAt(double step) const { return std::exp2(kFirstExponent + step); }

  // Steps must grow from call to call. Nothing when the values cannot be had at all.
  std::optional<CheckpointChoice> At(double step) {
    for (int i = 0; i < view_->size(); ++i) {
      if (recompute_edge_[i] >= 0) network_.RaiseCapacity(recompute_edge_[i], Price(i, step));
    }
    if (network_.Solve(kSource, kSink) >= MaxFlow::kInfinite / 2) return std::nullopt;
    const std::vector<bool> sink_side = network_.SinkSide(kSink);
    CheckpointChoice choice{std::vector<bool>(view_->size(), false), std::vector<bool>(view_->size(), false)};
    for (int i = 0; i < view_->size(); ++i) {
      if (in_[i] < 0 || !sink_side[out_[i]]) continue;
      (sink_side[in_[i]] ? choice.recompute : choice.keep)[i] = true;
    }
    return choice;
  }

 private:
  static constexpr int kSource = 0, kSink = 1;

  bool InRegion(int i) const { return (*view_)[i].region >= 0; }

  // With one element of a tuple all of them are kept.
  bool IsForced(int i) const {
    const int tuple = (*view_)[i].tuple;
    return tuple < 0 ? IsForcedItself(i) : (*view_)[i].can_keep && forced_tuple_[tuple];
  }

  bool IsForcedItself(int i) const {
    const JointValue& value = (*view_)[i];
    if (!value.can_keep) return false;
    // An element of attention's tuple stands for the tuple.
    const Node& node = *value.node;
    const Node& producer = value.tuple < 0 ? node : *(*view_)[value.tuple].node;
    if (base_ == Base::kSac && IsAttention(producer) && InRegion(i)) return true;
    // A mask that every layer reads may be as large as anything in them: whether it is kept is a matter of its costs.
    if (base_ == Base::kLayerInputs && (value.shared || !InRegion(i))) return false;
    return base_ != Base::kFree && base_ != Base::kNone && view_->LeavesRegion(i);
  }

  bool MayKeep(int i) const {
    if (!(*view_)[i].can_keep) return false;
    if ((base_ != Base::kFull && base_ != Base::kSac) || !InRegion(i)) return true;
    return IsForced(i) || !CanRecompute(i);
  }

  bool CanRecompute(int i) const {
    if (!(*view_)[i].can_recompute) return false;
    if ((*view_)[i].must_recompute) return true;
    // Outside of blocks, and without blocks, checkpointing by layers computes nothing again that takes time.
    const bool only_free = base_ == Base::kNone || ((base_ == Base::kFull || base_ == Base::kSac) && !InRegion(i));
    return !only_free || (*view_)[i].seconds == 0;
  }

  MaxFlow::Capacity Price(int i, double step) const {
    const double spread = 1 + kSpread * i / std::max(1, view_->size());
    return static_cast<MaxFlow::Capacity>(std::min(largest_, MuAt(step) * (*view_)[i].seconds * spread));
  }

  void Connect(int i) {
    const JointValue& value = (*view_)[i];
    for (const int operand : value.operands) {
      if (out_[operand] < 0) continue;
      if (in_[i] >= 0) network_.AddEdge(out_[operand], in_[i], MaxFlow::kInfinite);
      // The first time backward reads it.
      if (!value.forward) network_.AddEdge(out_[operand], kSink, MaxFlow::kInfinite);
    }
    if (in_[i] < 0) return;
    // Who keeps an element does not compute its tuple again.
    if (value.tuple >= 0) network_.AddEdge(in_[i], in_[value.tuple], MaxFlow::kInfinite);
    const auto bytes = static_cast<MaxFlow::Capacity>(value.returned ? 0 : std::min(largest_, value.bytes));
    network_.AddEdge(in_[i], out_[i], MayKeep(i) ? bytes : MaxFlow::kInfinite);
    if (!CanRecompute(i) || IsForced(i)) {
      network_.AddEdge(kSource, in_[i], MaxFlow::kInfinite);
    } else {
      recompute_edge_[i] = network_.AddEdge(kSource, in_[i], 0);
    }
  }

  const JointView* view_;
  Base base_;
  double largest_;  // No finite capacity is larger: their sum stays below kInfinite.
  MaxFlow network_;
  std::vector<int> in_, out_, recompute_edge_;
  std::vector<bool> forced_tuple_;  // Of a call that returns several values: one of them is forced.
};

class Planner {
 public:
  explicit Planner(const JointView& view) : view_(view) {}

  CheckpointPlan Finish(CheckpointChoice choice) const {
    CheckpointPlan plan;
    plan.memory = SimulateMemory(view_, choice);
    for (int i = 0; i < view_.size(); ++i) {
      if (choice.recompute[i]) plan.recompute_seconds += view_[i].seconds;
      plan.step_seconds += view_[i].seconds;
    }
    plan.choice = std::move(choice);
    return plan;
  }

  Expected<CheckpointPlan> Fixed(Base base) const {
    std::optional<CheckpointChoice> choice = CutFamily(view_, base).At(kGridSteps);
    if (!choice) return NoFiniteCut();
    return Finish(std::move(*choice));
  }

  // The plans of a family over the grid, in growing mu.
  std::vector<std::pair<int, CheckpointPlan>> Grid(Base base) const {
    CutFamily family(view_, base);
    std::vector<std::pair<int, CheckpointPlan>> plans;
    for (int step = 0; step <= kGridSteps; ++step) {
      std::optional<CheckpointChoice> choice = family.At(step);
      if (!choice) break;
      if (!plans.empty() && plans.back().second.choice.recompute == choice->recompute &&
          plans.back().second.choice.keep == choice->keep) {
        plans.back().first = step;
        continue;
      }
      plans.emplace_back(step, Finish(std::move(*choice)));
    }
    return plans;
  }

  // The least recomputation of a family within the budget.
  std::optional<CheckpointPlan> Within(Base base, const std::vector<std::pair<int, CheckpointPlan>>& grid,
                                       double budget) const {
    int found = -1;
    for (int i = 0; i < static_cast<int>(grid.size()); ++i) {
      if (grid[i].second.memory.peak <= budget) found = i;
    }
    if (found < 0) return std::nullopt;
    CheckpointPlan best = grid[found].second;
    if (found + 1 == static_cast<int>(grid.size())) return best;
    // Equal plans have one entry, at their last step: the change lies in the step that follows.
    double low = grid[found].first, high = low + 1;
    CheckpointChoice above = grid[found + 1].second.choice;
    CutFamily at_low(view_, base);  // Its flow is where each larger step goes on from.
    at_low.At(low);
    for (int i = 0; i < kBisections; ++i) {
      const double middle = (low + high) / 2;
      CutFamily family = at_low;
      CheckpointChoice choice = *family.At(middle);
      const bool as_low = choice == best.choice;
      if (!as_low && choice == above) {
        high = middle;
        continue;
      }
      if (CheckpointPlan plan = as_low ? best : Finish(choice); plan.memory.peak <= budget) {
        best = std::move(plan);
        low = middle;
        at_low = std::move(family);
      } else {
        high = middle;
        above = std::move(choice);
      }
    }
    return best;
  }

  // What kAuto searches: plans that keep what enters each layer, and plans that need not.
  std::vector<Base> AutoBases() const {
    std::vector<Base> bases{Base::kFree};
    if (view_.regions() > 0) bases.push_back(Base::kLayerInputs);
    return bases;
  }

  std::optional<double> SmallestPeak() const {
    std::optional<double> smallest;
    for (const Base base : AutoBases()) {
      for (const auto& [step, plan] : Grid(base))
        smallest = std::min(smallest.value_or(plan.memory.peak), plan.memory.peak);
    }
    return smallest;
  }

  Expected<CheckpointPlan> Auto(const PlannerOptions& options) const {
    const std::vector<Base> bases = AutoBases();
    double smallest = -1, largest = 0;
    std::vector<std::vector<std::pair<int, CheckpointPlan>>> grids;
    for (const Base base : bases) {
      grids.push_back(Grid(base));
      for (const auto& [step, plan] : grids.back()) {
        smallest = smallest < 0 ? plan.memory.peak : std::min(smallest, plan.memory.peak);
        largest = std::max(largest, grids.back().back().second.memory.peak);
      }
    }
    if (smallest < 0) return NoFiniteCut();
    const double budget = options.budget_fraction > 0 || options.budget <= 0
                              ? smallest + options.budget_fraction * (largest - smallest)
                              : options.budget;
    std::optional<CheckpointPlan> best;
    for (std::size_t i = 0; i < bases.size(); ++i) {
      std::optional<CheckpointPlan> plan = Within(bases[i], grids[i], budget);
      if (plan && (!best || plan->recompute_seconds < best->recompute_seconds)) best = std::move(plan);
    }
    if (best) return std::move(*best);
    return Diagnostic{
        DiagnosticCode::kMemoryBudget,
        fmt::format("no plan fits a memory budget of {:.0f} bytes: the smallest peak that a plan reaches is {:.0f}",
                    budget, smallest),
        {},
        "",
        {fmt::format("without recomputation the peak is {:.0f} bytes", largest)},
        ""};
  }

  // What backward reads and cannot have: kept it would hold something else, and its call runs once.
  Status CheckReachable() const {
    Status status;
    for (const int i : view_.Unreachable()) {
      const Node& node = *view_[i].node;
      const char* why = node.is_input() ? "the forward overwrites" : "can neither be kept nor computed a second time";
      status.Add(Diagnostic{DiagnosticCode::kNoCheckpointPlan,
                            fmt::format("backward reads %{}, which {}", node.name, why),
                            node.provenance.location,
                            "%" + node.name,
                            {},
                            ""});
    }
    return status;
  }

 private:
  static Diagnostic NoFiniteCut() {
    return Diagnostic{
        DiagnosticCode::kNoCheckpointPlan, "no set of kept values gives backward what it reads", {}, "", {}, ""};
  }

  const JointView& view_;
};

}  // namespace

std::optional<CheckpointPolicy> CheckpointPolicyFromString(std::string_view text) {
  if (text == "none") return CheckpointPolicy::kNone;
  if (text == "full") return CheckpointPolicy::kFull;
  if (text == "sac") return CheckpointPolicy::kSac;
  if (text == "auto") return CheckpointPolicy::kAuto;
  return std::nullopt;
}

Expected<CheckpointPlan> PlanCheckpoints(const JointView& view, const PlannerOptions& options) {
  const Planner planner(view);
  AUTOSP_RETURN_IF_ERROR(planner.CheckReachable());
  switch (options.policy) {
    case CheckpointPolicy::kNone:
      return planner.Fixed(Base::kNone);
    case CheckpointPolicy::kFull:
      return planner.Fixed(Base::kFull);
    case CheckpointPolicy::kSac:
      return planner.Fixed(Base::kSac);
    case CheckpointPolicy::kAuto:
      return planner.Auto(options);
  }
  return planner.Fixed(Base::kNone);
}

std::optional<double> SmallestPeak(const JointView& view) { return Planner(view).SmallestPeak(); }

std::vector<CheckpointPlan> CheckpointHull(const JointView& view) {
  std::vector<CheckpointPlan> plans;
  for (auto& [step, plan] : Planner(view).Grid(Base::kFree)) plans.push_back(std::move(plan));
  return plans;
}

}  // namespace autosp
