#pragma once

#include <autosp/ir/argument.h>
#include <autosp/ir/type.h>
#include <autosp/support/status.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace autosp {

// What a graph promises; every form has its own list of checks (ir/verifier.h). Order = order of the pipeline.
enum class Form : std::uint8_t {
  kCaptured,
  kNormalized,
  kSharded,
  kResharded,
  kPartitioned,
  kLowered,
  kJoint,
  kPlanned
};
const char* ToString(Form form);  // "captured"
std::optional<Form> FormFromString(std::string_view text);

// One axis of the device mesh.
struct MeshAxis {
  std::string name;
  std::int64_t size = 1;
  bool operator==(const MeshAxis&) const = default;
};

// Where a node comes from.
struct Provenance {
  SourceLocation location;  // The user's line.
  std::string module_path;  // "model.layers.0.self_attn"
  std::string fx_name;      // The name in the framework's graph, if it differs from the node's.
  bool operator==(const Provenance&) const = default;
};

// One operation and its one result (a tuple when the op has several).
//   op: ATen qualified name with overload, ".default" left out ("aten.linear", "aten.add.Tensor");
//       "autosp.*" (reshard, shard_slice, all_to_all, ... see docs/ir.md); "_c10d_functional.*";
//       "sym.add|sub|mul|floordiv|mod|max|min|..." over integers; "builtin.getitem", "builtin.set_grad_enabled",
//       "torch.higher_order.*"; anything else the framework calls, by its qualified name.
struct Node {
  enum class Kind : std::uint8_t { kInput, kCall, kOutput };

  Kind kind = Kind::kCall;
  std::string name;            // Unique in its graph; prints as %name. Empty for the output node.
  std::string op;              // kCall only.
  std::vector<Argument> args;  // kOutput: the returned values.
  std::vector<std::pair<std::string, Argument>> attributes;  // Named arguments, in the order given.
  Type type;
  Provenance provenance;
  int origin = -1;            // Position in the imported framework graph; -1 for nodes that a pass made.
  std::int64_t seq_dim = -1;  // kInput: the dim the user tagged as the sequence, -1 when not tagged. Prints "tag=1".
  bool tangent = false;       // kInput, Joint and Planned forms: backward starts from it. Prints "tangent".
  // Joint and Planned forms: what the user demanded of the value (prints "must_keep" or "must_recompute"), or that the
  // call draws random numbers, has an effect or is unknown: a second run may give something else. Prints "run_once".
  enum class Choice : std::uint8_t { kFree, kKeep, kRecompute, kOnce };
  Choice choice = Choice::kFree;
  bool written = false;    // Joint and Planned forms: the program overwrites its memory. Prints "written".
  bool recompute = false;  // Planned form: backward computes this value again. Prints "checkpoint".

  bool is_input() const { return kind == Kind::kInput; }
  bool is_call() const { return kind == Kind::kCall; }
  bool is_output() const { return kind == Kind::kOutput; }
  bool is_call(std::string_view name_of_op) const { return is_call() && op == name_of_op; }
  const Argument* attribute(std::string_view name_of_attribute) const;  // null when absent
  void set_attribute(std::string_view name_of_attribute, Argument value);
  bool remove_attribute(std::string_view name_of_attribute);
  // The values this node reads, left to right, repeated as often as they are read.
  std::vector<Node*> operands() const;
};

// A straight-line program in SSA: inputs, calls, one output node at the end. Owns its nodes; iteration is in program
// order and never depends on addresses.
class Graph {
 public:
  explicit Graph(std::string name = "main");
  Graph(Graph&&) noexcept = default;
  Graph& operator=(Graph&&) noexcept = default;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  Graph Clone() const;  // Nodes keep their names and origins.

  const std::string& name() const { return name_; }
  void set_name(std::string name) { name_ = std::move(name); }
  Form form() const { return form_; }
  void set_form(Form form) { form_ = form; }

  std::vector<MeshAxis>& mesh() { return mesh_; }
  const std::vector<MeshAxis>& mesh() const { return mesh_; }
  // The axis that the passes partition over, "sp". Size 1 when the mesh has no such axis.
  std::int64_t axis_size(std::string_view axis = "sp") const;

  // One concrete value per symbol: what the example inputs had. Costs only; never truth.
  std::map<std::string, std::int64_t>& hints() { return hints_; }
  const std::map<std::string, std::int64_t>& hints() const { return hints_; }
  // Facts `dim % divisor == 0` that hold for every run of this graph (guarded by the exporter).
  std::vector<std::pair<Dim, std::int64_t>>& divisible() { return divisible_; }
  const std::vector<std::pair<Dim, std::int64_t>>& divisible() const { return divisible_; }
  bool IsDivisible(const Dim& dim, std::int64_t divisor) const;
  // Joint and Planned forms: so many of the returned values are results of the forward, the others of the backward. -1:
  // all. Prints "return %loss backward %grad".
  std::int64_t forward_outputs() const { return forward_outputs_; }
  void set_forward_outputs(std::int64_t count) { forward_outputs_ = count; }

  const std::vector<std::unique_ptr<Node>>& nodes() const { return nodes_; }
  std::vector<Node*> inputs() const;
  Node* output() const;  // null while under construction
  Node* Find(std::string_view name) const;
  std::size_t size() const { return nodes_.size(); }

  // All keep names unique: a taken name gets a suffix "_1", "_2", ...; characters that the text form does not allow in
  // a name (letters, digits, "_" and "." are) become "_".
  Node* AddInput(std::string name, Type type);                                             // After the last input.
  Node* AddCall(std::string name, std::string op, std::vector<Argument> args, Type type);  // At the end.
  Node* SetOutput(std::vector<Argument> values);
  // `position` null: at the front, after the inputs (never between them). The new node takes over where a call at
  // `position` comes from: its source line and module path. Takes time linear in the size of the graph, a few
  // microseconds at 3,000 nodes; a `position` that is no node of this graph counts as null.
  Node* InsertAfter(const Node* position, std::string name, std::string op, std::vector<Argument> args, Type type);
  Node* InsertBefore(const Node* position, std::string name, std::string op, std::vector<Argument> args, Type type);
  // Removes nodes for which `dead` is true; none of them may be read by a node that stays.
  template <typename F>
  std::size_t RemoveIf(const F& dead) {
    const std::size_t before = nodes_.size();
    std::erase_if(nodes_, [&](const std::unique_ptr<Node>& node) {
      const bool removed = dead(*node);
      if (removed && !node->name.empty()) by_name_.erase(node->name);
      return removed;
    });
    return before - nodes_.size();
  }
  // Every node reads `to` where it read `from`; `except` is left alone (the node made from `from`, usually `to`
  // itself).
  void ReplaceUses(Node* from, Node* to, const Node* except = nullptr);
  // The same for many values in one walk: who read a key reads its value, or what that is replaced by in turn. No
  // replacement may read its own key.
  void ReplaceUses(const std::map<const Node*, Node*>& replacements);
  // For each node, the nodes that read it, in program order, each reader once. Index by Numbering().
  std::map<const Node*, std::vector<Node*>> Users() const;  // Look up only; do not iterate.
  std::map<const Node*, int> Numbering() const;             // Position of each node. Look up only; do not iterate.

 private:
  Node* Insert(std::size_t index, std::string name, std::string op, std::vector<Argument> args, Type type);
  std::size_t IndexOf(const Node* node) const;  // size() when absent
  std::size_t InputCount() const;               // Of the inputs at the front.
  static void CopyOrigin(const Node& from, Node& to);
  std::string UniqueName(std::string wanted);

  std::string name_;
  Form form_ = Form::kCaptured;
  std::vector<MeshAxis> mesh_;
  std::map<std::string, std::int64_t> hints_;
  std::vector<std::pair<Dim, std::int64_t>> divisible_;
  std::int64_t forward_outputs_ = -1;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::map<std::string, Node*, std::less<>> by_name_;
  std::map<std::string, int> next_suffix_;
};

}  // namespace autosp
