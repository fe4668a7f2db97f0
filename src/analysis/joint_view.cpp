#include <autosp/analysis/joint_view.h>

#include <autosp/ir/verifier.h>

#include <algorithm>
#include <cctype>
#include <set>

namespace autosp {
namespace {

// "stages.0.layers.3.mlp" -> {"stages.0", "stages.0.layers.3"}: up to each part that is a number.
std::vector<std::string> BlocksOf(const std::string& path) {
  std::vector<std::string> blocks;
  for (std::size_t begin = 0; begin < path.size();) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    const bool number = end > begin && std::all_of(path.begin() + static_cast<std::ptrdiff_t>(begin),
                                                   path.begin() + static_cast<std::ptrdiff_t>(end),
                                                   [](unsigned char c) { return std::isdigit(c) != 0; });
    if (number) blocks.push_back(path.substr(0, end));
    begin = end + 1;
  }
  return blocks;
}

// "model.layers.3" -> "model.layers"; "3" -> "".
std::string ContainerOf(const std::string& block) {
  const std::size_t point = block.rfind('.');
  return point == std::string::npos ? "" : block.substr(0, point);
}

// Attention by a kernel, or by its softmax.
bool HoldsAttention(const Node& node) { return IsAttention(node) || node.op.starts_with("aten._softmax"); }

// A size, or nothing that takes memory.
bool IsSize(const Type& type) { return !type.is_tensor() && type.kind != Type::Kind::kTuple; }

}  // namespace

JointView::JointView(const Graph& graph, const SymbolValues& values, const DeviceModel& device, bool tangents_held) {
  values_.reserve(graph.size());
  for (const auto& node : graph.nodes()) {
    if (node->is_output()) continue;
    index_[node.get()] = size();
    AddNode(graph, *node, values, device);
    values_.back().held = tangents_held && node->tangent;
  }
  std::int64_t position = 0;
  const std::int64_t forward = graph.forward_outputs();
  if (graph.output() != nullptr) {
    for (const Argument& argument : graph.output()->args) {
      const bool of_forward = forward < 0 || position < forward;
      ++position;
      const Node* value = argument.node();
      if (value == nullptr) continue;
      const int index = index_.at(value);
      (of_forward ? forward_outputs_ : backward_outputs_).push_back(index);
      if (of_forward && values_[index].storage >= 0) values_[values_[index].storage].returned = true;
    }
  }
  const std::vector<bool> written = FindWritten();
  for (JointValue& value : values_) SetChoices(value, written);
  JoinTuples();
  FindLate(written);
  FindRegions();
}

std::vector<bool> JointView::FindWritten() const {
  std::vector<bool> written(values_.size(), false);
  for (const JointValue& value : values_) {
    if (value.node->written && value.storage >= 0) written[value.storage] = true;
    if (!value.node->is_call() || !IsInPlace(value.node->op) || value.operands.empty()) continue;
    if (const int target = values_[value.operands.front()].storage; target >= 0) written[target] = true;
  }
  return written;
}

bool JointView::Reads(const JointValue& value, const std::vector<bool>& written) const {
  return std::any_of(value.operands.begin(), value.operands.end(),
                     [&](int operand) { return values_[operand].storage >= 0 && written[values_[operand].storage]; });
}

void JointView::SetChoices(JointValue& value, const std::vector<bool>& written) const {
  const Node& node = *value.node;
  value.available =
      (node.is_input() && !node.tangent && !(value.storage >= 0 && written[value.storage])) || IsSize(node.type);
  if (!node.is_call()) return;
  const bool in_place = IsInPlace(node.op);
  // Done once, whatever the user demands: keeping what came of it gives the same gradients.
  const bool once = node.choice == Node::Choice::kOnce || DrawsRandomNumbers(node) || in_place || Reads(value, written);
  const bool own = value.storage >= 0 && values_[value.storage].node == &node;
  value.effect = in_place || node.choice == Node::Choice::kOnce;
  value.can_keep = own && (once || node.choice != Node::Choice::kRecompute);
  value.must_recompute = !once && node.choice == Node::Choice::kRecompute;
  // Who demands that a view is kept means the memory that it shows.
  const bool view = value.storage >= 0 && !own;
  value.can_recompute = !once && (view || node.choice != Node::Choice::kKeep);
}

void JointView::JoinTuples() {
  for (int i = 0; i < size(); ++i) {
    const Node& node = *values_[i].node;
    if (node.choice != Node::Choice::kKeep || values_[i].storage < 0 || values_[i].storage == i) continue;
    JointValue& base = values_[values_[i].storage];
    if (!base.node->is_call()) continue;
    base.can_keep = true;
    base.can_recompute = base.must_recompute = false;
  }
  std::vector<bool> fixed(values_.size(), false);  // A tuple with an element that must be kept.
  for (int i = 0; i < size(); ++i) {
    JointValue& value = values_[i];
    if (value.node->op != "builtin.getitem" || value.operands.empty()) continue;
    const int producer = value.operands.front();
    if (values_[producer].storage >= 0 || values_[producer].node->type.kind != Type::Kind::kTuple) continue;
    value.tuple = producer;
    if (!value.can_recompute) fixed[producer] = true;
  }
  for (int i = 0; i < size(); ++i) {
    JointValue& value = values_[i];
    if (fixed[i]) value.can_recompute = value.must_recompute = false;
    if (value.tuple < 0 || values_[value.tuple].can_recompute) continue;
    value.can_recompute = value.must_recompute = false;
    value.can_keep = value.storage == i;
  }
}

std::vector<int> JointView::Unreachable() const {
  std::vector<bool> reachable(values_.size(), false), reported(values_.size(), false);
  std::vector<int> result;
  for (int i = 0; i < size(); ++i) {
    const JointValue& value = values_[i];
    const bool from_operands =
        std::all_of(value.operands.begin(), value.operands.end(), [&](int operand) { return reachable[operand]; });
    reachable[i] = value.available || value.can_keep || !value.forward || (value.can_recompute && from_operands);
    // A tuple's elements are what is kept of it.
    const bool is_tuple = value.forward && value.storage < 0 && value.node->type.kind == Type::Kind::kTuple;
    reachable[i] = reachable[i] || is_tuple;
    if (value.forward) continue;
    for (const int operand : value.operands) {
      if (reachable[operand] || reported[operand]) continue;
      reported[operand] = true;
      result.push_back(operand);
    }
  }
  return result;
}

void JointView::FindLate(const std::vector<bool>& written) {
  std::vector<bool> needed(values_.size(), false);
  for (const int output : forward_outputs_) needed[output] = true;
  for (int i = 0; i < size(); ++i) {
    JointValue& value = values_[i];
    if (!value.forward || !value.node->is_call()) continue;
    // Later, the numbers drawn would be others, and the memory read would hold something else.
    value.effect = value.effect || DrawsRandomNumbers(*value.node) || Reads(value, written);
    needed[i] = needed[i] || value.effect;
  }
  for (int i = size() - 1; i >= 0; --i) {
    if (!needed[i]) continue;
    for (const int operand : values_[i].operands) needed[operand] = true;
  }
  for (int i = 0; i < size(); ++i) {
    JointValue& value = values_[i];
    if (needed[i] || !value.forward || value.available || !value.node->is_call()) continue;
    // The log-sum-exp of attention: nobody but backward takes it out of the tuple, but the forward computes the tuple.
    if (value.node->op == "builtin.getitem" && !value.operands.empty() && values_[value.operands.front()].forward) {
      continue;
    }
    value.forward = false;
    value.late = true;
  }
}

void JointView::AddNode(const Graph& graph, const Node& node, const SymbolValues& values, const DeviceModel& device) {
  JointValue value;
  const int index = size();
  value.node = &node;
  value.forward = !node.tangent;
  for (const Node* operand : node.operands()) {
    const int from = index_.at(operand);
    if (std::find(value.operands.begin(), value.operands.end(), from) != value.operands.end()) continue;
    value.operands.push_back(from);
    values_[from].readers.push_back(index);
    value.forward = value.forward && values_[from].forward;
  }
  const bool view = IsView(node) && !value.operands.empty();
  if (node.type.is_tensor()) value.storage = view ? values_[value.operands.front()].storage : index;
  // A tuple of views passes its operand's memory on to the elements; any other tuple has none of its own.
  if (node.type.kind == Type::Kind::kTuple && view) value.storage = values_[value.operands.front()].storage;
  if (value.storage == index) value.bytes = Bytes(node.type, values);
  value.workspace = Workspace(node, values);
  value.seconds = Seconds(node, values, device, graph.axis_size());
  values_.push_back(std::move(value));
}

// A block is the outermost module that is one of several in a list ("layers.3"), or, where blocks hold lists of which
// several members do attention (the stages of a hierarchical model), a member of those ("stages.0.layers.3").
void JointView::FindRegions() {
  std::map<std::string, std::set<std::string>> members;  // "model.layers" -> its blocks; likewise those with attention
  std::map<std::string, std::set<std::string>> attending;
  for (const JointValue& value : values_) {
    if (!value.forward) continue;
    for (const std::string& block : BlocksOf(value.node->provenance.module_path)) {
      members[ContainerOf(block)].insert(block);
      if (HoldsAttention(*value.node)) attending[ContainerOf(block)].insert(block);
    }
  }
  std::map<std::string, int> numbers;  // Looked up only.
  for (JointValue& value : values_) {
    if (!value.forward || !value.node->is_call()) continue;
    std::string chosen;
    for (const std::string& block : BlocksOf(value.node->provenance.module_path)) {
      const std::string container = ContainerOf(block);
      if (chosen.empty() ? members[container].size() > 1 : attending[container].size() > 1) chosen = block;
    }
    if (!chosen.empty()) value.region = numbers.emplace(chosen, static_cast<int>(numbers.size())).first->second;
  }
  regions_ = static_cast<int>(numbers.size());
  FindShared();
}

void JointView::FindShared() {
  std::vector<bool> from_outside(values_.size(), false);
  for (int i = 0; i < size(); ++i) {
    JointValue& value = values_[i];
    if (!value.forward) continue;
    from_outside[i] = std::all_of(value.operands.begin(), value.operands.end(),
                                  [&](int operand) { return values_[operand].region < 0 || from_outside[operand]; });
    if (!from_outside[i] || value.region < 0 || !LeavesRegion(i)) continue;
    // What a block returns is the last that it computes; this is read in it.
    value.shared = std::any_of(value.readers.begin(), value.readers.end(), [&](int reader) {
      return values_[reader].forward && values_[reader].region == value.region;
    });
  }
}

bool JointView::LeavesRegion(int index) const {
  std::vector<int> aliases{index};
  for (std::size_t i = 0; i < aliases.size(); ++i) {
    for (const int reader : values_[aliases[i]].readers) {
      if (!values_[reader].forward) continue;
      if (values_[reader].storage == values_[index].storage) {
        aliases.push_back(reader);
      } else if (values_[reader].region != values_[index].region) {
        return true;
      }
    }
  }
  return false;
}

}  // namespace autosp
