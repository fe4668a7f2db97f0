#include <autosp/ir/printer.h>
#include <autosp/ir/verifier.h>

#include "text_cursor.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <utility>

namespace autosp {
namespace {

// "aten.add_.Tensor" -> "add_": the name between namespace and overload.
std::string_view BaseName(std::string_view op) {
  const std::size_t start = op.find('.');
  if (start == std::string_view::npos) return op;
  op.remove_prefix(start + 1);
  return op.substr(0, op.find('.'));
}

bool IsCollective(std::string_view op) {
  constexpr std::string_view kMoves[] = {"autosp.reshard",    "autosp.shard_slice", "autosp.all_to_all",
                                         "autosp.all_gather", "autosp.all_reduce",  "autosp.reduce_scatter"};
  return std::find(std::begin(kMoves), std::end(kMoves), op) != std::end(kMoves);
}

// aten.cross_entropy_loss(input, target, weight, reduction=1, ...): 1 is the mean, also when it is left out.
bool IsMeanCrossEntropy(const Node& node) {
  if (!node.is_call() || BaseName(node.op) != "cross_entropy_loss") return false;
  const Argument* reduction = node.args.size() > 3 ? &node.args[3] : node.attribute("reduction");
  if (!reduction) return true;
  const std::int64_t* value = reduction->get<std::int64_t>();
  return value && *value == 1;
}

class Verifier {
 public:
  explicit Verifier(const Graph& graph) : graph_(graph), position_(graph.Numbering()) {}

  Status Run() {
    CheckMesh();
    CheckOrder();
    for (const auto& node : graph_.nodes()) {
      if (!node) continue;
      CheckName(*node);
      CheckOperands(*node);
      CheckType(*node, node->type);
      CheckForm(*node);
    }
    return std::move(status_);
  }

 private:
  void Report(const Node* node, std::string message) {
    Diagnostic diagnostic{DiagnosticCode::kInvalidGraph, std::move(message), {}, {}, {}, {}};
    if (node) {
      diagnostic.location = node->provenance.location;
      diagnostic.subject = Describe(*node);
    }
    diagnostic.message += fmt::format(" (form {})", ToString(graph_.form()));
    status_.Add(std::move(diagnostic));
  }

  static std::string NameOf(const Node& node) { return node.is_output() ? "the output" : "%" + node.name; }

  void CheckMesh() {
    std::set<std::string_view> names;
    for (const MeshAxis& axis : graph_.mesh()) {
      if (axis.size < 1)
        Report(nullptr, fmt::format("mesh axis \"{}\" has size {}, not 1 or more", axis.name, axis.size));
      if (!names.insert(axis.name).second) Report(nullptr, fmt::format("mesh axis \"{}\" stands twice", axis.name));
    }
  }

  void CheckOrder() {
    int outputs = 0;
    const Node* first_call = nullptr;
    for (const auto& node : graph_.nodes()) {
      if (!node) {
        Report(nullptr, "the graph holds a null node");
      } else if (node->is_output()) {
        ++outputs;
        if (node != graph_.nodes().back()) Report(nullptr, "the output is not the last node");
      } else if (node->is_call()) {
        if (!first_call) first_call = node.get();
      } else if (first_call) {
        Report(node.get(), fmt::format("input {} stands after {}", NameOf(*node), NameOf(*first_call)));
      }
    }
    if (outputs != 1) Report(nullptr, fmt::format("the graph has {} output nodes, not 1", outputs));
  }

  void CheckName(const Node& node) {
    if (node.is_output()) {
      if (!node.name.empty()) Report(&node, fmt::format("the output has the name %{}", node.name));
      return;
    }
    if (node.name.empty() || !std::all_of(node.name.begin(), node.name.end(), IsNameChar)) {
      std::string quoted;
      AppendQuoted(quoted, node.name);
      Report(&node, fmt::format("{} is no name; letters, digits, \"_\" and \".\" are allowed", quoted));
    } else if (!names_.insert(node.name).second) {
      Report(&node, fmt::format("two nodes have the name %{}", node.name));
    } else if (graph_.Find(node.name) != &node) {
      Report(&node, fmt::format("%{} is not found by its name: it was renamed in place", node.name));
    }
    if (node.is_call() && node.op.empty()) Report(&node, fmt::format("{} has no operation", NameOf(node)));
  }

  void CheckOperands(const Node& node) {
    for (const Argument& argument : node.args) CheckArgument(node, argument);
    for (const auto& [key, argument] : node.attributes) CheckArgument(node, argument);
  }

  void CheckArgument(const Node& node, const Argument& argument) {
    if (argument.is_node()) {
      CheckOperand(node, argument.node());
    } else if (const Argument::List* list = argument.list()) {
      for (const Argument& item : *list) CheckArgument(node, item);
    } else if (const auto* slice = argument.get<std::shared_ptr<Argument::Slice>>()) {
      if (!*slice) return Report(&node, fmt::format("{} has a null slice", NameOf(node)));
      CheckArgument(node, (*slice)->start);
      CheckArgument(node, (*slice)->stop);
      CheckArgument(node, (*slice)->step);
    } else if (const auto* constant = argument.get<Argument::Constant>()) {
      if (!IsPlainWord(constant->family) || constant->family.find('.') != std::string::npos) {
        Report(&node,
               fmt::format("{} has a constant of the family \"{}\", which is no word", NameOf(node), constant->family));
      }
    }
  }

  void CheckOperand(const Node& node, const Node* operand) {
    if (!operand) return Report(&node, fmt::format("{} reads a null value", NameOf(node)));
    // Only the address of an operand that is not found may be used: it may point to a node that is gone.
    const auto found = position_.find(operand);
    if (found == position_.end()) {
      return Report(&node, fmt::format("{} reads a value that is not in the graph", NameOf(node)));
    }
    if (operand->is_output()) return Report(&node, fmt::format("{} reads the output", NameOf(node)));
    if (found->second >= position_.at(&node)) {
      Report(&node, fmt::format("{} reads {}, which does not stand before it", NameOf(node), NameOf(*operand)));
    }
  }

  void CheckType(const Node& node, const Type& type) {
    if (node.is_output()) return;
    if (type.kind == Type::Kind::kTuple) {
      if (type.elements.empty()) Report(&node, fmt::format("the tuple {} has no elements", NameOf(node)));
      for (const Type& element : type.elements) CheckType(node, element);
      return;
    }
    if (!type.is_tensor()) {
      if (!type.layout.is_unset()) Report(&node, fmt::format("{} is no tensor but has a layout", NameOf(node)));
      return;
    }
    for (const Dim& size : type.shape) {
      if (size.constant().value_or(0) < 0) {
        Report(&node, fmt::format("{} has the negative size {}", NameOf(node), size.ToString()));
      }
    }
    CheckLayout(node, type);
  }

  void CheckLayout(const Node& node, const Type& type) {
    const Layout& layout = type.layout;
    if (graph_.form() != Form::kSharded && graph_.form() != Form::kResharded) {
      if (!layout.is_unset()) {
        Report(&node, fmt::format("{} has the layout {} in a form without layouts", NameOf(node), layout.ToString()));
      }
      return;
    }
    if (layout.is_unset()) return Report(&node, fmt::format("{} has no layout", NameOf(node)));
    if (!layout.is_sharded()) return;
    if (layout.dim < 0 || layout.dim >= type.rank()) {
      return Report(&node, fmt::format("{} is sharded on dim {} of {} dims", NameOf(node), layout.dim, type.rank()));
    }
    const Dim& size = type.shape[static_cast<std::size_t>(layout.dim)];
    const Dim product = layout.major * layout.length * layout.minor;
    if (product != size) {
      Report(&node, fmt::format("dim {} of {} has size {}, but its layout {} * {} * {} gives {}", layout.dim,
                                NameOf(node), size.ToString(), layout.major.ToString(), layout.length.ToString(),
                                layout.minor.ToString(), product.ToString()));
    }
  }

  void CheckForm(const Node& node) {
    const Form form = graph_.form();
    if (node.recompute && form != Form::kPlanned) {
      Report(&node, fmt::format("{} is marked for recomputation before the planned form", NameOf(node)));
    }
    if ((node.tangent || node.written || node.choice != Node::Choice::kFree) && form < Form::kJoint) {
      Report(&node, fmt::format("{} has a mark that belongs to a joint graph", NameOf(node)));
    }
    if (!node.is_call()) return;
    if (MustNotHold(form, node.op)) Report(&node, fmt::format("{} does not belong in this form", node.op));
    if (form < Form::kNormalized || form > Form::kLowered) return;
    if (IsInPlace(node.op)) Report(&node, fmt::format("{} writes to its operand", node.op));
    if (IsMeanCrossEntropy(node)) Report(&node, fmt::format("{} takes the mean, not sum and count", node.op));
  }

  static bool MustNotHold(Form form, std::string_view op) {
    if (!op.starts_with("autosp.")) return false;
    switch (form) {
      case Form::kSharded:
        return IsCollective(op);
      case Form::kResharded:
        return false;
      case Form::kPartitioned:
        return op == "autosp.reshard";
      case Form::kCaptured:
      case Form::kNormalized:
      case Form::kLowered:
      case Form::kJoint:
      case Form::kPlanned:
        return true;
    }
    return true;
  }

  const Graph& graph_;
  const std::map<const Node*, int> position_;  // Look up only.
  std::set<std::string_view> names_;
  Status status_;
};

}  // namespace

bool IsInPlace(std::string_view op) {
  if (op.starts_with("builtin.") || op.starts_with("sym.") || op.starts_with("torch.")) return false;
  const std::string_view name = BaseName(op);
  if (name.ends_with("__")) return name.starts_with("__i") && name != "__invert__" && name != "__index__";
  return name.ends_with("_");
}

Status Verify(const Graph& graph) { return Verifier(graph).Run(); }

}  // namespace autosp
