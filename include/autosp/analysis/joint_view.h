#pragma once

#include <autosp/analysis/op_cost.h>

#include <vector>

namespace autosp {

// One node of a joint graph as the checkpoint planner sees it, for fixed lengths.
struct JointValue {
  const Node* node = nullptr;
  // The forward computes it. Not so what depends on a tangent, and what only backward reads and that costs something:
  // backward computes it once, `late`.
  bool forward = false;
  bool late = false;
  bool available = false;  // Backward has it for nothing: a size, or an input that nothing overwrites.
  bool effect = false;     // The forward runs it whether its result is read or not.
  bool returned = false;   // The forward returns it (or a view of it): its memory stays whatever is kept.
  bool held = false;       // A tangent that the caller holds until backward ends.
  // The index of the value whose memory this is: itself, the base of a view; -1 for sizes and tuples. The elements of a
  // tuple own their memory, which their producer allocates.
  int storage = -1;
  double bytes = 0;  // Of its own memory; 0 for a view.
  double seconds = 0;
  double workspace = 0;         // Bytes held while it runs.
  bool can_keep = false;        // A tensor with memory of its own.
  bool can_recompute = false;   // Gives the same result a second time.
  bool must_recompute = false;  // The user demands it: a checkpoint region.
  int region = -1;              // The repeated block (layer) it belongs to, numbered in program order; -1: none.
  // Each block made it for itself, of what lies outside of blocks, and equal values became one: a mask in the form that
  // attention wants. It is no result of the block that it is counted to.
  bool shared = false;
  int tuple = -1;  // Of an element: the call that returns it with others. All that backward reads of one call is kept,
                   // or none is.
  std::vector<int> operands;  // Indices, each once.
  std::vector<int> readers;
};

// A joint graph (form joint or planned): inputs marked `tangent` are what backward starts from, the first
// forward_outputs() returned values are those of the forward.
class JointView {
 public:
  // `tangents_held`: PlannerOptions::tangents_held.
  JointView(const Graph& graph, const SymbolValues& values, const DeviceModel& device, bool tangents_held = false);

  const std::vector<JointValue>& values() const { return values_; }
  const JointValue& operator[](int index) const { return values_[index]; }
  int size() const { return static_cast<int>(values_.size()); }
  int regions() const { return regions_; }
  const std::vector<int>& forward_outputs() const { return forward_outputs_; }
  const std::vector<int>& backward_outputs() const { return backward_outputs_; }
  // Forward values that backward reads and that it cannot have: neither kept nor computed a second time. A buffer that
  // the forward overwrites is one. No plan exists unless this is empty.
  std::vector<int> Unreachable() const;
  // Whether a forward value outside the region of `index` reads its memory: what leaves a layer.
  bool LeavesRegion(int index) const;

 private:
  void AddNode(const Graph& graph, const Node& node, const SymbolValues& values, const DeviceModel& device);
  std::vector<bool> FindWritten() const;  // Per storage: something overwrites it.
  bool Reads(const JointValue& value, const std::vector<bool>& written) const;
  void SetChoices(JointValue& value, const std::vector<bool>& written) const;
  void JoinTuples();
  void FindLate(const std::vector<bool>& written);
  void FindRegions();
  void FindShared();

  std::vector<JointValue> values_;
  std::vector<int> forward_outputs_, backward_outputs_;
  std::map<const Node*, int> index_;  // Looked up only.
  int regions_ = 0;
};

}  // namespace autosp
