#include <autosp/ir/printer.h>
#include <autosp/ir/requires_grad.h>
#include <autosp/sharding/partition_proof.h>

#include <fmt/format.h>

#include <algorithm>

namespace autosp {
namespace {

// What the ranks hold of the cotangent of one value, for the objective "sum of the losses of all P ranks". Each is the
// only one that fits its layout:
//   whole value    kTerms   the sum over the ranks is P times the gradient; one rank's term alone means nothing
//   partial value  kEqual   every rank holds P times the gradient
//   cut value      kBlock   every rank holds P times its block of the gradient
struct Cotangent {
  enum class Kind : std::uint8_t { kNone, kTerms, kEqual, kBlock };
  Kind kind = Kind::kNone;
  Layout layout = Layout();  // kBlock
  // kBlock: whether the padded tail has none. A tail repeats the last true element, so whatever it had would be added
  // to that element's gradient, or to a weight's.
  bool silent_tail = true;

  bool operator==(const Cotangent& other) const { return kind == other.kind && layout == other.layout; }
  std::string ToString() const {
    switch (kind) {
      case Kind::kNone:
        return "nothing";
      case Kind::kTerms:
        return "terms of it";
      case Kind::kEqual:
        return "all of it on every rank";
      case Kind::kBlock:
        return "blocks of it, " + layout.ToString();
    }
    return "";
  }
};

Cotangent Dual(const Layout& layout) {
  if (layout.is_partial()) return {Cotangent::Kind::kEqual};
  if (layout.is_sharded()) return {Cotangent::Kind::kBlock, layout};
  return {Cotangent::Kind::kTerms};
}

class Backward {
 public:
  Backward(const Graph& graph, const PartitionFacts& facts) : graph_(graph), facts_(facts) {}

  Status Run() {
    CheckGradMode();
    for (auto it = graph_.nodes().rbegin(); it != graph_.nodes().rend(); ++it) {
      const Node& node = **it;
      if (node.is_output()) {
        VisitOutput(node);
      } else if (RequiresGrad(node.type)) {
        Visit(node);
      }
    }
    return std::move(status_);
  }

 private:
  void Conflict(const Node& node, std::string message) {
    status_.Add(Diagnostic{
        DiagnosticCode::kCotangentConflict, std::move(message), node.provenance.location, Describe(node), {}, ""});
  }

  // A collective where gradients are not recorded would stop those of what it moves; harmless where its reader records
  // none either.
  void CheckGradMode() {
    Graph copy = graph_.Clone();
    InferRequiresGrad(copy);
    bool grad_mode = true;
    for (const auto& node : graph_.nodes()) {
      if (node->is_call("builtin.set_grad_enabled") && !node->args.empty() && node->args[0].get<bool>() != nullptr) {
        grad_mode = *node->args[0].get<bool>();
      }
      if (!grad_mode) continue;
      for (const Node* operand : node->operands()) {
        if (!operand->is_call() || !operand->op.starts_with("autosp.")) continue;
        const Node* moved = operand->args.empty() ? nullptr : operand->args[0].node();
        if (moved == nullptr || !copy.Find(moved->name)->type.requires_grad ||
            copy.Find(operand->name)->type.requires_grad) {
          continue;
        }
        Conflict(*operand,
                 fmt::format("%{} requires a gradient, but {} moves it where none is recorded: the ranks hold "
                             "nothing of it, the whole program does",
                             moved->name, operand->op));
      }
    }
  }

  // One reader's share: all readers must hold the cotangent alike, or their sum means nothing.
  void Give(const Node& value, const Cotangent& cotangent, const Node& reader, std::size_t element = 0) {
    const Type& type =
        value.type.is_tensor() || element >= value.type.elements.size() ? value.type : value.type.elements[element];
    if (!type.requires_grad) return;
    std::vector<Cotangent>& held = held_[&value];
    if (held.size() <= element) held.resize(element + 1);
    Cotangent& sum = held[element];
    if (sum.kind == Cotangent::Kind::kNone) {
      sum = cotangent;
      return;
    }
    if (!(sum == cotangent)) {
      Conflict(reader, fmt::format("the ranks hold {} of the gradient of %{} from here, but {} from another reader",
                                   cotangent.ToString(), value.name, sum.ToString()));
    }
    sum.silent_tail = sum.silent_tail && cotangent.silent_tail;
  }

  // A loss is returned whole and brings each rank's own; the reader of a cut value sees its block and no tail.
  void VisitOutput(const Node& node) {
    for (const Node* value : node.operands()) {
      if (value->type.is_tensor()) Give(*value, Dual(facts_.Of(*value).layout), *value);
    }
  }

  void Visit(const Node& node) {
    const auto found = held_.find(&node);
    if (found == held_.end()) return;  // No output depends on it.
    const std::vector<Cotangent> held = found->second;
    if (!Fits(node, held)) return;
    if (node.is_input()) return;
    if (node.op == "builtin.getitem") {
      const auto* index = node.args[1].get<std::int64_t>();
      const Node* tuple = node.args[0].node();
      if (index == nullptr || tuple == nullptr) return;
      const auto count = static_cast<std::int64_t>(tuple->type.elements.size());
      Give(*tuple, held[0], node, static_cast<std::size_t>(*index < 0 ? *index + count : *index));
    } else if (node.op.starts_with("autosp.")) {
      VisitCollective(node, held[0]);
    } else {
      VisitCall(node, held);
    }
  }

  // What is held against what the layout asks for; at a trained input that is what the engine averages.
  bool Fits(const Node& node, const std::vector<Cotangent>& held) {
    bool fits = true;
    for (std::size_t i = 0; i < held.size(); ++i) {
      if (held[i].kind == Cotangent::Kind::kNone) continue;
      const auto known = facts_.layouts.find(&node);
      const Layout layout =
          known != facts_.layouts.end() && i < known->second.size() ? known->second[i].layout : Layout::Replicated();
      const Cotangent wanted = Dual(layout);
      if (held[i] == wanted) continue;
      Conflict(node, fmt::format("%{} is {}, so the ranks must hold {} of its gradient, but they hold {}", node.name,
                                 layout.ToString(), wanted.ToString(), held[i].ToString()));
      fits = false;
    }
    return fits;
  }

  // Where a tail would be added to something else.
  void WantSilentTail(const Node& node, const Cotangent& held) {
    if (held.silent_tail || graph_.IsDivisible(held.layout.length, graph_.axis_size())) return;
    Conflict(node, fmt::format("the padded tail of %{} has a gradient, and {} adds it to that of true elements: the "
                               "ranks must hold {} of it without a tail",
                               node.name, node.op, held.ToString()));
  }

  void VisitCollective(const Node& node, const Cotangent& held) {
    const Node* operand = node.args.empty() ? nullptr : node.args[0].node();
    if (operand == nullptr) return;
    const Argument* reduce = node.attribute("reduce");
    const auto* how = reduce == nullptr ? nullptr : reduce->get<std::string>();
    const bool reduces = node.op == "autosp.all_reduce" || node.op == "autosp.reduce_scatter";
    if (reduces && (how == nullptr || *how != "sum")) {
      Conflict(node,
               fmt::format("%{} requires a gradient, but only sums over the ranks have one: the ranks hold {} and "
                           "would hand back nothing of it",
                           operand->name, held.ToString()));
      return;
    }
    // The adjoints: all_gather <-> reduce_scatter, all_reduce <-> all_reduce, slice <-> zeros around the block; each
    // takes what the layout after it has to what the layout before it has, and drops the tail.
    if (node.op != "autosp.all_gather" && node.op != "autosp.all_reduce" && node.op != "autosp.mask_padding") {
      WantSilentTail(node, held);
    }
    Cotangent before = Dual(facts_.Of(*operand).layout);
    if (node.op == "autosp.mask_padding") before = {Cotangent::Kind::kBlock, held.layout};
    Give(*operand, before, node);
  }

  void VisitCall(const Node& node, const std::vector<Cotangent>& held) {
    const auto found = facts_.cuts.find(&node);
    if (found == facts_.cuts.end()) {
      // The op of the whole program, on every rank: its adjoint is linear, terms give terms.
      for (const Node* operand : node.operands()) {
        if (operand->type.is_tensor()) Give(*operand, {Cotangent::Kind::kTerms}, node);
      }
      return;
    }
    const CutCall& call = found->second;
    bool silent = true;
    for (const Cotangent& cotangent : held) silent = silent && cotangent.silent_tail;
    const bool reduction = call.mapping.factors[call.cut.factor].kind == FactorKind::kReduction;
    if (!reduction) {
      for (const Cotangent& cotangent : held) {
        if (cotangent.kind == Cotangent::Kind::kBlock) WantSilentTail(node, cotangent);
      }
    }
    for (std::size_t i = 0; i < call.mapping.operands.size(); ++i) {
      const OperandFactors& operand = call.mapping.operands[i];
      if (!operand.read) continue;
      Cotangent given = Dual(LayoutUnder(call.cut, operand.dims, call.mapping.factors));
      // A sum hands its cotangent to the tail as well; the operand that was masked drops it there, and the others are
      // multiplied with what was masked.
      given.silent_tail = reduction ? static_cast<int>(i) != call.mapping.neutral_operand : silent;
      Give(*call.operands[i], given, node);
    }
  }

  const Graph& graph_;
  const PartitionFacts& facts_;
  std::map<const Node*, std::vector<Cotangent>> held_;  // Looked up only.
  Status status_;
};

}  // namespace

Status CheckCotangents(const Graph& partitioned, const PartitionFacts& facts) {
  return Backward(partitioned, facts).Run();
}

}  // namespace autosp
