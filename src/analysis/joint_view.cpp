#include <autosp/analysis/joint_view.h>

#include <algorithm>
#include <cctype>
#include <set>

namespace autosp {
namespace {

// "model.layers.3.mlp" -> "model.layers.3": up to the first part that is a number. Empty when there is none.
std::string BlockOf(const std::string& path) {
  for (std::size_t begin = 0; begin < path.size();) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    const bool number = end > begin && std::all_of(path.begin() + static_cast<std::ptrdiff_t>(begin),
                                                   path.begin() + static_cast<std::ptrdiff_t>(end),
                                                   [](unsigned char c) { return std::isdigit(c) != 0; });
    if (number) return path.substr(0, end);
    begin = end + 1;
  }
  return "";
}

// A size, or nothing that takes memory.
bool IsSize(const Type& type) { return !type.is_tensor() && type.kind != Type::Kind::kTuple; }

}  // namespace

JointView::JointView(const Graph& graph, const SymbolValues& values, const DeviceModel& device) {
  values_.reserve(graph.size());
  for (const auto& node : graph.nodes()) {
    if (node->is_output()) continue;
    index_[node.get()] = size();
    AddNode(graph, *node, values, device);
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
  FindLate();
  FindRegions();
}

void JointView::FindLate() {
  std::vector<bool> needed(values_.size(), false);
  for (const int output : forward_outputs_) needed[output] = true;
  for (int i = size() - 1; i >= 0; --i) {
    if (!needed[i]) continue;
    for (const int operand : values_[i].operands) needed[operand] = true;
  }
  for (int i = 0; i < size(); ++i) {
    JointValue& value = values_[i];
    if (needed[i] || !value.forward || value.available || !value.node->is_call()) continue;
    // The log-sum-exp of attention: nobody but backward takes it out of the tuple, but the forward computes the tuple.
    if (value.node->op == "builtin.getitem" && values_[value.operands.front()].forward) continue;
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
  value.available = (node.is_input() && !node.tangent) || IsSize(node.type);
  const bool view = IsView(node) && !value.operands.empty();
  if (node.type.is_tensor()) value.storage = view ? values_[value.operands.front()].storage : index;
  // A tuple of views passes its operand's memory on to the elements; any other tuple has none of its own.
  if (node.type.kind == Type::Kind::kTuple && view) value.storage = values_[value.operands.front()].storage;
  if (value.storage == index) value.bytes = Bytes(node.type, values);
  value.workspace = Workspace(node, values);
  value.seconds = Seconds(node, values, device, graph.axis_size());
  // Random numbers are drawn once, whatever the user demands: keeping them gives the same gradients.
  const bool random = DrawsRandomNumbers(node);
  value.can_keep = value.storage == index && node.is_call() && (random || node.choice != Node::Choice::kRecompute);
  value.must_recompute = node.is_call() && !random && node.choice == Node::Choice::kRecompute;
  // Who demands that a view is kept means the memory that it shows.
  const bool own = value.storage == index || value.storage < 0;
  value.can_recompute = node.is_call() && !random && (!own || node.choice != Node::Choice::kKeep);
  if (!own && node.choice == Node::Choice::kKeep && values_[value.storage].node->is_call()) {
    JointValue& base = values_[value.storage];
    base.can_keep = true;
    base.can_recompute = base.must_recompute = false;
  }
  values_.push_back(std::move(value));
}

void JointView::FindRegions() {
  std::map<std::string, std::set<std::string>> siblings;  // "model.layers" -> its blocks
  for (const JointValue& value : values_) {
    const std::string block = BlockOf(value.node->provenance.module_path);
    if (value.forward && !block.empty()) siblings[block.substr(0, block.rfind('.'))].insert(block);
  }
  std::map<std::string, int> numbers;  // Looked up only.
  for (JointValue& value : values_) {
    const std::string block = BlockOf(value.node->provenance.module_path);
    if (!value.forward || !value.node->is_call() || block.empty()) continue;
    if (siblings[block.substr(0, block.rfind('.'))].size() < 2) continue;
    value.region = numbers.emplace(block, static_cast<int>(numbers.size())).first->second;
  }
  regions_ = static_cast<int>(numbers.size());
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
