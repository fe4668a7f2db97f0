#pragma once

#include <autosp/pass/pass.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace autosp {

struct PassManagerOptions {
  bool verify_each = true;            // Check form, contract and changed bit after every pass.
  std::string reproducer_dir;         // Empty: no reproducer is written on failure.
  std::vector<std::string> disabled;  // Names of passes to skip; a pass that changes the form cannot be skipped.
  std::string stop_after;             // Name of the last pass to run; empty: all.
};

struct PassTiming {
  std::string pass;
  double seconds = 0;         // the pass
  double verify_seconds = 0;  // the checks after it
  bool changed = false;
  std::size_t nodes = 0;  // after the pass
};

using PassObserver = std::function<void(const Pass&, const Graph&, bool changed)>;

// Runs passes in order: refuses a wrong order before anything runs, verifies after every pass, compares each "changed"
// answer with the graph's hash, and on failure leaves the graph as it was before the failing pass, writes a reproducer
// (text form + pipeline + options) and names it in a note.
class PassManager {
 public:
  explicit PassManager(std::vector<std::unique_ptr<Pass>> passes, PassManagerOptions options = {});

  Status Run(Graph& graph, PassContext& context);

  // Called after each pass that succeeded.
  void set_observer(PassObserver observer) { observer_ = std::move(observer); }
  const std::vector<PassTiming>& timings() const { return timings_; }

 private:
  using Schedule = std::vector<const Pass*>;

  // The passes that `options_` leave to run, in order; bad names and passes that may not be skipped are refused.
  Expected<Schedule> MakeSchedule() const;
  Status CheckOrder(const Graph& graph, const Schedule& schedule) const;
  Status RunPass(Graph& graph, PassContext& context, const Schedule& schedule, std::size_t index);
  Status CheckResult(const Graph& before, const Graph& after, const Pass& pass, bool changed);
  void AddReproducer(Status& status, const Graph& before, const PassContext& context, const Schedule& schedule,
                     std::size_t index) const;

  std::vector<std::unique_ptr<Pass>> passes_;
  PassManagerOptions options_;
  PassObserver observer_;
  std::vector<PassTiming> timings_;
  std::uint64_t hash_ = 0;  // of the graph, kept from check to check while running
};

}  // namespace autosp
