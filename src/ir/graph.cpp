#include <autosp/ir/graph.h>

#include "text_cursor.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <utility>

namespace autosp {
namespace {

constexpr const char* kFormNames[] = {"captured",    "normalized", "sharded", "resharded",
                                      "partitioned", "lowered",    "joint",   "planned"};

// A copy that reads the copies of the values; slices are not shared with the original.
Argument CopyArgument(const Argument& argument, const std::map<const Node*, Node*>& copies) {
  if (const Node* node = argument.node()) {
    const auto found = copies.find(node);
    return found == copies.end() ? Argument(const_cast<Node*>(node)) : Argument(found->second);
  }
  if (const Argument::List* list = argument.list()) {
    Argument::List items;
    items.reserve(list->size());
    for (const Argument& item : *list) items.push_back(CopyArgument(item, copies));
    return items;
  }
  if (const auto* slice = argument.get<std::shared_ptr<Argument::Slice>>(); slice && *slice) {
    auto copy = std::make_shared<Argument::Slice>();
    copy->start = CopyArgument((*slice)->start, copies);
    copy->stop = CopyArgument((*slice)->stop, copies);
    copy->step = CopyArgument((*slice)->step, copies);
    return copy;
  }
  return argument;
}

template <typename F>
void ForEachArgument(Node& node, const F& f) {
  for (Argument& argument : node.args) f(argument);
  for (auto& [name, argument] : node.attributes) f(argument);
}

std::int64_t Magnitude(std::int64_t value) { return value < 0 && value != INT64_MIN ? -value : value; }

}  // namespace

const char* ToString(Form form) { return kFormNames[static_cast<std::size_t>(form)]; }

std::optional<Form> FormFromString(std::string_view text) {
  for (std::size_t i = 0; i < std::size(kFormNames); ++i) {
    if (text == kFormNames[i]) return static_cast<Form>(i);
  }
  return std::nullopt;
}

const Argument* Node::attribute(std::string_view name_of_attribute) const {
  for (const auto& [key, value] : attributes) {
    if (key == name_of_attribute) return &value;
  }
  return nullptr;
}

void Node::set_attribute(std::string_view name_of_attribute, Argument value) {
  for (auto& [key, old] : attributes) {
    if (key == name_of_attribute) {
      old = std::move(value);
      return;
    }
  }
  attributes.emplace_back(std::string(name_of_attribute), std::move(value));
}

bool Node::remove_attribute(std::string_view name_of_attribute) {
  return std::erase_if(attributes, [&](const auto& entry) { return entry.first == name_of_attribute; }) > 0;
}

std::vector<Node*> Node::operands() const {
  std::vector<Node*> nodes;
  const auto add = [&](Node* node) { nodes.push_back(node); };
  for (const Argument& argument : args) ForEachNode(argument, add);
  for (const auto& [key, argument] : attributes) ForEachNode(argument, add);
  return nodes;
}

Graph::Graph(std::string name) : name_(std::move(name)) {}

Graph Graph::Clone() const {
  Graph copy(name_);
  copy.form_ = form_;
  copy.mesh_ = mesh_;
  copy.hints_ = hints_;
  copy.divisible_ = divisible_;
  copy.forward_outputs_ = forward_outputs_;
  copy.next_suffix_ = next_suffix_;
  std::map<const Node*, Node*> copies;
  for (const auto& node : nodes_) {
    copy.nodes_.push_back(std::make_unique<Node>(*node));
    Node* twin = copy.nodes_.back().get();
    copies[node.get()] = twin;
    if (!twin->name.empty()) copy.by_name_.emplace(twin->name, twin);
  }
  for (const auto& node : copy.nodes_) {
    ForEachArgument(*node, [&](Argument& argument) { argument = CopyArgument(argument, copies); });
  }
  return copy;
}

std::int64_t Graph::axis_size(std::string_view axis) const {
  for (const MeshAxis& candidate : mesh_) {
    if (candidate.name == axis) return candidate.size;
  }
  return 1;
}

bool Graph::IsDivisible(const Dim& dim, std::int64_t divisor) const {
  if (divisor == 0) return false;
  if (divisor == 1 || divisor == -1 || ExactDiv(dim, divisor)) return true;
  // dim = fact * q, and the fact's divisor times the content of q is a multiple of `divisor`.
  for (const auto& [fact, known] : divisible_) {
    const auto quotient = ExactDiv(dim, fact);
    if (!quotient || quotient->is_zero()) continue;
    if (std::all_of(quotient->terms().begin(), quotient->terms().end(),
                    [divisor, multiple = known](const Dim::Term& term) {
                      std::int64_t product = 0;
                      return !__builtin_mul_overflow(term.coefficient, multiple, &product) && product % divisor == 0;
                    })) {
      return true;
    }
  }
  // Else every term must be: by its coefficient times what is known of its atoms.
  for (const Dim::Term& term : dim.terms()) {
    std::int64_t product = Magnitude(term.coefficient);
    for (const Dim::Atom& atom : term.atoms) {
      const Dim factor = atom.is_symbol() ? Dim::Symbol(atom.symbol) : Dim::MakeCall(atom.call, *atom.lhs, *atom.rhs);
      std::int64_t best = 1;
      for (const auto& [fact, known] : divisible_) {
        if (fact == factor) best = std::max(best, known);
      }
      if (__builtin_mul_overflow(product, best, &product)) return false;
    }
    if (product % divisor != 0) return false;
  }
  return true;
}

std::vector<Node*> Graph::inputs() const {
  std::vector<Node*> found;
  for (const auto& node : nodes_) {
    if (node->is_input()) found.push_back(node.get());
  }
  return found;
}

Node* Graph::output() const { return !nodes_.empty() && nodes_.back()->is_output() ? nodes_.back().get() : nullptr; }

Node* Graph::Find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

std::string Graph::UniqueName(std::string wanted) {
  for (char& c : wanted) {
    if (!IsNameChar(c)) c = '_';
  }
  if (wanted.empty()) wanted = "v";
  if (!by_name_.contains(wanted)) return wanted;
  int& suffix = next_suffix_[wanted];
  for (;;) {
    std::string candidate = wanted + "_" + std::to_string(++suffix);
    if (!by_name_.contains(candidate)) return candidate;
  }
}

Node* Graph::Insert(std::size_t index, std::string name, std::string op, std::vector<Argument> args, Type type) {
  auto node = std::make_unique<Node>();
  node->name = UniqueName(std::move(name));
  node->op = std::move(op);
  node->args = std::move(args);
  node->type = std::move(type);
  Node* inserted = node.get();
  by_name_.emplace(inserted->name, inserted);
  nodes_.insert(nodes_.begin() + static_cast<std::ptrdiff_t>(index), std::move(node));
  return inserted;
}

std::size_t Graph::IndexOf(const Node* node) const {
  const auto found = std::find_if(nodes_.begin(), nodes_.end(), [&](const auto& held) { return held.get() == node; });
  return static_cast<std::size_t>(found - nodes_.begin());
}

std::size_t Graph::InputCount() const {
  const auto found = std::find_if(nodes_.begin(), nodes_.end(), [](const auto& node) { return !node->is_input(); });
  return static_cast<std::size_t>(found - nodes_.begin());
}

Node* Graph::AddInput(std::string name, Type type) {
  Node* node = Insert(InputCount(), std::move(name), "", {}, std::move(type));
  node->kind = Node::Kind::kInput;
  return node;
}

Node* Graph::AddCall(std::string name, std::string op, std::vector<Argument> args, Type type) {
  const std::size_t end = output() ? nodes_.size() - 1 : nodes_.size();
  return Insert(end, std::move(name), std::move(op), std::move(args), std::move(type));
}

Node* Graph::SetOutput(std::vector<Argument> values) {
  if (Node* present = output()) {
    present->args = std::move(values);
    return present;
  }
  auto node = std::make_unique<Node>();
  node->kind = Node::Kind::kOutput;
  node->args = std::move(values);
  nodes_.push_back(std::move(node));
  return nodes_.back().get();
}

Node* Graph::InsertAfter(const Node* position, std::string name, std::string op, std::vector<Argument> args,
                         Type type) {
  const std::size_t index = position ? IndexOf(position) : nodes_.size();
  const bool known = index < nodes_.size();
  const std::size_t after_inputs = InputCount();
  std::size_t target = known ? std::max(index + 1, after_inputs) : after_inputs;
  if (known && nodes_[index]->is_output()) target = index;  // The output stays last.
  Node* node = Insert(target, std::move(name), std::move(op), std::move(args), std::move(type));
  if (known) CopyOrigin(*position, *node);
  return node;
}

Node* Graph::InsertBefore(const Node* position, std::string name, std::string op, std::vector<Argument> args,
                          Type type) {
  const std::size_t index = position ? IndexOf(position) : nodes_.size();
  const bool known = index < nodes_.size();
  const std::size_t target = known ? std::max(index, InputCount()) : InputCount();
  Node* node = Insert(target, std::move(name), std::move(op), std::move(args), std::move(type));
  if (known) CopyOrigin(*position, *node);
  return node;
}

void Graph::CopyOrigin(const Node& from, Node& to) {
  if (!from.is_call()) return;
  to.provenance.location = from.provenance.location;
  to.provenance.module_path = from.provenance.module_path;
}

void Graph::ReplaceUses(Node* from, Node* to, const Node* except) {
  // Readers stand after what they read.
  const std::size_t position = IndexOf(from);
  for (std::size_t i = position < nodes_.size() ? position + 1 : 0; i < nodes_.size(); ++i) {
    if (nodes_[i].get() == except) continue;
    ForEachArgument(*nodes_[i], [&](Argument& argument) {
      ForEachNode(argument, [&](Node*& read) {
        if (read == from) read = to;
      });
    });
  }
}

void Graph::ReplaceUses(const std::map<const Node*, Node*>& replacements) {
  for (const auto& node : nodes_) {
    ForEachArgument(*node, [&](Argument& argument) {
      ForEachNode(argument, [&](Node*& read) {
        // Bounded, so that a cycle in the map ends.
        for (std::size_t hop = 0; hop < replacements.size(); ++hop) {
          const auto found = replacements.find(read);
          if (found == replacements.end()) return;
          read = found->second;
        }
      });
    });
  }
}

std::map<const Node*, std::vector<Node*>> Graph::Users() const {
  std::map<const Node*, std::vector<Node*>> users;
  for (const auto& node : nodes_) {
    users[node.get()];
    for (Node* operand : node->operands()) {
      std::vector<Node*>& readers = users[operand];
      if (readers.empty() || readers.back() != node.get()) readers.push_back(node.get());
    }
  }
  return users;
}

std::map<const Node*, int> Graph::Numbering() const {
  std::map<const Node*, int> numbers;
  int next = 0;
  for (const auto& node : nodes_) numbers[node.get()] = next++;
  return numbers;
}

}  // namespace autosp
