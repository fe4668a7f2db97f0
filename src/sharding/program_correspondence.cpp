#include <autosp/ir/printer.h>
#include <autosp/ir/requires_grad.h>
#include <autosp/sharding/partition_proof.h>
#include <autosp/sharding/strategy.h>

#include <fmt/format.h>

#include <algorithm>

namespace autosp {
namespace {

constexpr std::int64_t kToTheEnd = std::int64_t{1} << 62;  // From here on a slice ends where its operand does.

bool IsCollective(const Node& node) { return node.is_call() && node.op.starts_with("autosp."); }
bool IsArithmetic(const Node& node) {
  return node.is_call() && (node.op.starts_with("sym.") || node.op == "aten.sym_size.int");
}

// The value that was moved, before all moves.
const Node& Moved(const Node& node) {
  const Node* value = &node;
  while (IsCollective(*value) && !value->args.empty() && value->args[0].node() != nullptr)
    value = value->args[0].node();
  return *value;
}

std::optional<Dim> DimOf(const Argument& argument) {
  if (const auto* value = argument.get<std::int64_t>()) return Dim(*value);
  const Node* node = argument.node();
  if (node != nullptr && node->type.kind == Type::Kind::kInt) return node->type.number;
  return std::nullopt;
}

// What integer arithmetic gives; nothing for an op that is not known. ceildiv(a, b) is computed as (a + b - 1) // b, so
// a division may be named either way: as the node does.
std::optional<Dim> NumberOf(const Node& node) {
  if (node.args.size() != 2) return std::nullopt;
  if (node.op == "aten.sym_size.int") {
    const Node* operand = node.args[0].node();
    const auto* dim = node.args[1].get<std::int64_t>();
    if (operand == nullptr || dim == nullptr || !operand->type.is_tensor()) return std::nullopt;
    const std::int64_t position = *dim < 0 ? *dim + operand->type.rank() : *dim;
    if (position < 0 || position >= operand->type.rank()) return std::nullopt;
    return operand->type.shape[static_cast<std::size_t>(position)];
  }
  const std::optional<Dim> a = DimOf(node.args[0]);
  const std::optional<Dim> b = DimOf(node.args[1]);
  if (!a || !b) return std::nullopt;
  if (node.op == "sym.add") return *a + *b;
  if (node.op == "sym.sub") return *a - *b;
  if (node.op == "sym.mul") return *a * *b;
  if (node.op == "sym.floordiv") {
    const Dim rounded_up = CeilDiv(*a - *b + 1, *b);
    return rounded_up == node.type.number ? rounded_up : FloorDiv(*a, *b);
  }
  if (node.op == "sym.mod") return Mod(*a, *b);
  if (node.op == "sym.max") return Max(*a, *b);
  if (node.op == "sym.min") return Min(*a, *b);
  return std::nullopt;
}

class Correspondence {
 public:
  Correspondence(const Graph& parts, const Graph& whole, const RuleTable& rules, const PartitionFacts& facts,
                 const std::string& outputs)
      : parts_(parts), whole_(whole), rules_(rules), facts_(facts), outputs_(outputs), users_(parts.Users()) {}

  Status Run() {
    CheckInputs();
    for (const auto& node : parts_.nodes()) {
      if (node->is_output()) {
        if (whole_.output() != nullptr) CheckOutputs(*node, *whole_.output());
      } else if (node->is_call() && !IsCollective(*node)) {
        CheckCall(*node);
      }
    }
    CheckGradients();
    return std::move(status_);
  }

 private:
  void Conflict(const Node& node, std::string message, const Node* original = nullptr) {
    Diagnostic diagnostic{DiagnosticCode::kLayoutConflict, std::move(message), node.provenance.location, {}, {}, ""};
    if (!node.is_output()) diagnostic.subject = Describe(node);
    if (original != nullptr) diagnostic.notes.push_back("the whole program has " + Print(*original));
    status_.Add(std::move(diagnostic));
  }

  void CheckInputs() {
    const std::vector<Node*> here = parts_.inputs();
    const std::vector<Node*> there = whole_.inputs();
    bool equal = here.size() == there.size();
    for (std::size_t i = 0; equal && i < here.size(); ++i) {
      Type type = there[i]->type;
      type.layout = Layout();
      equal = here[i]->name == there[i]->name && here[i]->type == type;
      if (!equal)
        Conflict(*here[i], fmt::format("the input {} is not that of the whole program", here[i]->name), there[i]);
    }
    if (here.size() != there.size()) {
      Conflict(*parts_.output(),
               fmt::format("{} inputs stand for the {} of the whole program", here.size(), there.size()));
    }
  }

  void CheckCall(const Node& node) {
    const Node* original = whole_.Find(node.name);
    if (IsArithmetic(node)) {
      const std::optional<Dim> number = NumberOf(node);
      const auto readers = users_.find(&node);
      const bool read = readers != users_.end() && !readers->second.empty();
      // The user's own arithmetic (a sum of a list, a power) is right as it stands: its operands are looked at
      // themselves.
      const bool own = node.op.starts_with("sym.") && original != nullptr &&
                       Print(node, {.locations = false}) == Print(*original, {.locations = false});
      if (read && !own && (!number || *number != node.type.number)) {
        Conflict(node, fmt::format("%{} is said to be {}, but is {}", node.name, node.type.number.ToString(),
                                   number ? number->ToString() : "not known"));
      }
      return;
    }
    if (original == nullptr || !original->is_call()) {
      Conflict(node, fmt::format("%{} is no operation of the whole program", node.name));
      return;
    }
    const bool reshaped =
        node.op == "aten.reshape" && (original->op == "aten.view" || original->op == "aten._unsafe_view");
    bool equal = (node.op == original->op || reshaped) && node.args.size() == original->args.size() &&
                 node.attributes.size() == original->attributes.size();
    for (std::size_t i = 0; equal && i < node.args.size(); ++i) {
      equal = IsSame(node, ParameterName(node, i), node.args[i], original->args[i]);
    }
    for (std::size_t i = 0; equal && i < node.attributes.size(); ++i) {
      const auto& [name, value] = node.attributes[i];
      const Argument* other = original->attribute(reshaped && name == "shape" ? "size" : name);
      equal = other != nullptr && IsSame(node, name, value, *other);
    }
    if (!equal)
      Conflict(node, fmt::format("%{} = {} is not what the whole program computes", node.name, node.op), original);
    CheckType(node, *original);
  }

  std::string ParameterName(const Node& node, std::size_t position) const {
    const OpRule* rule = rules_.Find(node.op);
    return rule != nullptr && position < rule->parameters.size() ? rule->parameters[position] : "";
  }

  // An argument of a call here against that of the whole call: values are those before all moves, sizes may be local.
  bool IsSame(const Node& node, const std::string& parameter, const Argument& here, const Argument& there) const {
    if (const Argument::List* list = here.list()) {
      const Argument::List* other = there.list();
      if (other == nullptr || list->size() != other->size()) return false;
      for (std::size_t i = 0; i < list->size(); ++i) {
        const std::optional<Dim> local = LocalSizeAt(node, parameter, i);
        const bool open = DimOf((*other)[i]) == Dim(-1);  // Left to be found out, on every rank by itself.
        if (local && !open ? DimOf((*list)[i]) != local : !IsSame(node, parameter, (*list)[i], (*other)[i]))
          return false;
      }
      return true;
    }
    if (parameter == "cut") return here.get<bool>() != nullptr && *here.get<bool>() == IsCutAlong(node);
    const std::optional<Dim> size = DimOf(here);
    const std::optional<Dim> other = DimOf(there);
    if (size || other) return size && other && (*size == *other || IsOpenEnd(node, parameter, here, *other));
    if (here.node() != nullptr) return there.node() != nullptr && Moved(*here.node()).name == there.node()->name;
    if (const auto* slice = here.get<std::shared_ptr<Argument::Slice>>()) {
      const auto* slice_there = there.get<std::shared_ptr<Argument::Slice>>();
      return slice_there != nullptr && IsSame(node, parameter, (*slice)->start, (*slice_there)->start) &&
             IsSame(node, parameter, (*slice)->stop, (*slice_there)->stop) &&
             IsSame(node, parameter, (*slice)->step, (*slice_there)->step);
    }
    return here == there;
  }

  // Whether a call that reads neighbours along one dim runs on blocks of that dim.
  bool IsCutAlong(const Node& node) const {
    const Layout& layout = facts_.Of(node).layout;
    const std::optional<std::int64_t> dim = CallArguments(node, *rules_.Find(node.op)).Int("dim");
    return layout.is_sharded() && layout.dim == dim.value_or(node.type.rank() - 1);
  }

  // Entry i of a list of sizes is that of a result dim; the local one where that dim is cut, nothing elsewhere.
  std::optional<Dim> LocalSizeAt(const Node& node, const std::string& parameter, std::size_t i) const {
    const OpRule* rule = rules_.Find(node.op);
    const Layout& layout = facts_.Of(node).layout;
    if (rule == nullptr || !layout.is_sharded() || !node.type.is_tensor()) return std::nullopt;
    std::int64_t first = 0;
    if (rule->function == "unflatten" && parameter == "sizes") {
      const std::int64_t dim = CallArguments(node, *rule).Int("dim").value_or(0);
      first = dim < 0 ? dim + node.args[0].node()->type.rank() : dim;
    } else if (rule->sizes != parameter) {
      return std::nullopt;
    }
    if (parameter.empty() || first + static_cast<std::int64_t>(i) != layout.dim || layout.dim >= node.type.rank()) {
      return std::nullopt;
    }
    return node.type.shape[static_cast<std::size_t>(layout.dim)];
  }

  // A slice that takes all of a dim that is cut ends at the largest int.
  bool IsOpenEnd(const Node& node, const std::string& parameter, const Argument& here, const Dim& there) const {
    const OpRule* rule = rules_.Find(node.op);
    const auto* end = here.get<std::int64_t>();
    const Layout& layout = facts_.Of(node).layout;
    if (rule == nullptr || rule->function != "slice" || parameter != "end" || end == nullptr || *end < kToTheEnd ||
        !layout.is_sharded()) {
      return false;
    }
    return there == layout.major * layout.length * layout.minor ||
           (there.constant() && (layout.major * layout.length * layout.minor).constant() &&
            *there.constant() >= *(layout.major * layout.length * layout.minor).constant());
  }

  void CheckType(const Node& node, const Node& original) {
    const auto found = facts_.layouts.find(&node);
    const auto local = [&](const Type& whole, std::size_t i) {
      Type type = whole;
      type.layout = Layout();
      if (found != facts_.layouts.end() && i < found->second.size()) type.layout = found->second[i].layout;
      if (type.is_tensor()) type.shape = LocalShape(parts_, type);
      type.layout = Layout();
      return type;
    };
    Type expected = local(original.type, 0);
    for (std::size_t i = 0; i < expected.elements.size(); ++i)
      expected.elements[i] = local(original.type.elements[i], i);
    if (expected == node.type) return;
    Conflict(node, fmt::format("%{} is {}, but follows as {}", node.name, Print(node.type), Print(expected)),
             &original);
  }

  void CheckOutputs(const Node& here, const Node& there) {
    if (here.args.size() != there.args.size()) {
      Conflict(here, fmt::format("{} values are returned instead of {}", here.args.size(), there.args.size()));
      return;
    }
    for (std::size_t i = 0; i < here.args.size(); ++i) {
      const Node* original = there.args[i].node();
      if (here.args[i].is_none() && outputs_ == "loss_only" && original != nullptr) continue;
      if (!IsSame(here, "", here.args[i], there.args[i])) {
        Conflict(here, fmt::format("output {} is {}, not {}", i, Print(here.args[i]), Print(there.args[i])));
      }
    }
  }

  // Moves take no gradient away and give none, wherever grad mode is switched: followed through both programs alike.
  void CheckGradients() {
    Graph here = parts_.Clone();
    Graph there = whole_.Clone();
    InferRequiresGrad(here);
    InferRequiresGrad(there);
    const auto check = [&](const Node& node, const Node& reported) {
      const Node* mine = here.Find(node.name);
      const Node* original = there.Find(Moved(node).name);
      if (original == nullptr || mine->type.requires_grad == original->type.requires_grad) return;
      Conflict(reported, fmt::format("%{} {} a gradient here, but {} one in the whole program", node.name,
                                     mine->type.requires_grad ? "requires" : "does not require",
                                     original->type.requires_grad ? "requires" : "does not require"));
    };
    for (const auto& node : parts_.nodes()) {
      if (node->is_call() && !IsCollective(*node)) check(*node, *node);
    }
    for (const Node* value : parts_.output()->operands()) {
      if (IsCollective(*value)) check(*value, *value);
    }
  }

  const Graph& parts_;
  const Graph& whole_;
  const RuleTable& rules_;
  const PartitionFacts& facts_;
  const std::string& outputs_;
  const std::map<const Node*, std::vector<Node*>> users_;  // Looked up only.
  Status status_;
};

}  // namespace

Status CheckCorrespondence(const Graph& partitioned, const Graph& whole, const RuleTable& rules,
                           const PartitionFacts& facts, const std::string& outputs) {
  return Correspondence(partitioned, whole, rules, facts, outputs).Run();
}

}  // namespace autosp
