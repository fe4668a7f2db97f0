#include <autosp/ir/printer.h>
#include <autosp/sharding/partition_proof.h>
#include <autosp/sharding/strategy.h>

#include <fmt/format.h>

#include <algorithm>
#include <memory>

namespace autosp {
namespace {

std::optional<Dim> DimOf(const Argument* argument) {
  if (argument == nullptr) return std::nullopt;
  if (const auto* value = argument->get<std::int64_t>()) return Dim(*value);
  const Node* node = argument->node();
  if (node != nullptr && node->type.kind == Type::Kind::kInt) return node->type.number;
  return std::nullopt;
}

std::vector<const Node*> TensorOperands(const Node& node) {
  std::vector<const Node*> tensors;
  for (const Node* operand : node.operands()) {
    if (operand->type.is_tensor()) tensors.push_back(operand);
  }
  return tensors;
}

class Derivation {
 public:
  Derivation(const Graph& graph, const Graph* whole, const RuleTable& rules, PartitionFacts& facts)
      : graph_(graph), whole_(whole), rules_(rules), facts_(facts) {}

  Status Run() {
    for (const auto& node : graph_.nodes()) {
      if (node->is_input()) {
        facts_.layouts[node.get()] = std::vector<KnownLayout>(1);
      } else if (node->is_output()) {
        VisitOutput(*node);
      } else if (node->op.starts_with("autosp.")) {
        VisitCollective(*node);
      } else if (node->op == "builtin.getitem") {
        VisitGetItem(*node);
      } else {
        VisitCall(*node);
      }
    }
    return std::move(status_);
  }

 private:
  const KnownLayout& Of(const Node& node) const { return facts_.Of(node); }
  void Store(const Node& node, const KnownLayout& known) { facts_.layouts[&node] = {known}; }

  void Conflict(const Node& node, std::string message) {
    status_.Add(Diagnostic{
        DiagnosticCode::kLayoutConflict, std::move(message), node.provenance.location, Describe(node), {}, ""});
  }

  Dim Block(const Dim& length) const {
    const std::int64_t ranks = graph_.axis_size();
    return graph_.IsDivisible(length, ranks) ? FloorDiv(length, ranks) : CeilDiv(length, ranks);
  }

  // The layout that attributes name.
  std::optional<KnownLayout> Named(const Node& node, const std::string& prefix) {
    const Argument* dim = node.attribute(prefix + "dim");
    const std::optional<Dim> major = DimOf(node.attribute(prefix + "major"));
    const std::optional<Dim> length = DimOf(node.attribute(prefix + "length"));
    const std::optional<Dim> minor = DimOf(node.attribute(prefix + "minor"));
    const auto* number = dim == nullptr ? nullptr : dim->get<std::int64_t>();
    if (number == nullptr || !major || !length || !minor) {
      Conflict(node, fmt::format("{} lacks one of the attributes {}dim, {}major, {}length, {}minor", node.op, prefix,
                                 prefix, prefix, prefix));
      return std::nullopt;
    }
    return KnownLayout{Layout::Sharded(static_cast<int>(*number), *length, *major, *minor), {}};
  }

  void Expect(const Node& node, const KnownLayout& found, const Layout& wanted) {
    if (found.layout == wanted) return;
    Conflict(node, fmt::format("{} takes a value that is {}, but %{} is {}", node.op, wanted.ToString(),
                               node.args[0].node()->name, found.layout.ToString()));
  }

  void ExpectPartial(const Node& node, const Node& operand, const KnownLayout& found) {
    const std::string name = node.op.substr(node.op.find('.') + 1);
    if (!found.layout.is_partial()) {
      Conflict(node, fmt::format("{} of %{}, which is {}", name, operand.name, found.layout.ToString()));
      return;
    }
    const Argument* reduce = node.attribute("reduce");
    const auto* text = reduce == nullptr ? nullptr : reduce->get<std::string>();
    if (text == nullptr || *text != ToString(found.layout.reduce)) {
      Conflict(node, fmt::format("{} of %{} by another operation than its {}", name, operand.name,
                                 ToString(found.layout.reduce)));
    }
  }

  void VisitCollective(const Node& node) {
    const Node* operand = node.args.size() != 1 ? nullptr : node.args[0].node();
    if (operand == nullptr || !operand->type.is_tensor() || !node.type.is_tensor()) {
      Conflict(node, fmt::format("{} needs one tensor operand", node.op));
      return;
    }
    const Argument* group = node.attribute("group");
    const auto* axis = group == nullptr ? nullptr : group->get<Argument::Constant>();
    if (axis == nullptr || axis->family != "group" || axis->name != kPartitionAxis) {
      Conflict(node, fmt::format("{} runs in another group than \"{}\"", node.op, kPartitionAxis));
    }
    const KnownLayout before = Of(*operand);
    if (node.op == "autosp.all_reduce") {
      ExpectPartial(node, *operand, before);
      CheckShape(node, *operand, before, {});
      Store(node, {});
      return;
    }
    const std::optional<KnownLayout> named = Named(node, "");
    if (!named) return;
    KnownLayout after;
    if (node.op == "autosp.shard_slice") {
      Expect(node, before, Layout::Replicated());
      after = *named;
    } else if (node.op == "autosp.reduce_scatter") {
      ExpectPartial(node, *operand, before);
      after = *named;
    } else if (node.op == "autosp.all_gather") {
      Expect(node, before, named->layout);
    } else if (node.op == "autosp.mask_padding") {
      Expect(node, before, named->layout);
      after = *named;
      const Argument* value = node.attribute("value");
      if (value != nullptr && value->get<double>() != nullptr) after.tail = *value->get<double>();
      if (value != nullptr && value->get<std::int64_t>() != nullptr) after.tail = *value->get<std::int64_t>();
    } else if (node.op == "autosp.all_to_all") {
      Expect(node, before, named->layout);
      const std::optional<KnownLayout> to = Named(node, "to_");
      if (!to) return;
      after = *to;
    } else {
      Conflict(node, fmt::format("{} is no collective of a partitioned graph", node.op));
    }
    CheckShape(node, *operand, before, after);
    Store(node, after);
  }

  // Local sizes with the cut dim made whole again; nothing where the local size is not that of a block.
  std::optional<std::vector<Dim>> WholeShape(const std::vector<Dim>& local, const Layout& layout) const {
    std::vector<Dim> shape = local;
    if (!layout.is_sharded()) return shape;
    if (layout.dim < 0 || layout.dim >= static_cast<int>(shape.size())) return std::nullopt;
    if (shape[layout.dim] != layout.major * Block(layout.length) * layout.minor) return std::nullopt;
    shape[layout.dim] = layout.major * layout.length * layout.minor;
    return shape;
  }

  // A collective changes where a value lies, never what it is: dtype and whole shape stay.
  void CheckShape(const Node& node, const Node& operand, const KnownLayout& before, const KnownLayout& after) {
    const auto whole_before = WholeShape(operand.type.shape, before.layout);
    const auto whole_after = WholeShape(node.type.shape, after.layout);
    if (whole_before && whole_after && *whole_before == *whole_after && operand.type.dtype == node.type.dtype) return;
    Conflict(node,
             fmt::format("{} gives {}, which does not follow from {}", node.op, Describe(node), Describe(operand)));
  }

  void VisitGetItem(const Node& node) {
    const Node* tuple = node.args.empty() ? nullptr : node.args[0].node();
    const auto* index = node.args.size() < 2 ? nullptr : node.args[1].get<std::int64_t>();
    if (tuple == nullptr || index == nullptr) return;
    const auto found = facts_.layouts.find(tuple);
    if (found == facts_.layouts.end()) return;
    const auto count = static_cast<std::int64_t>(found->second.size());
    const std::int64_t position = *index < 0 ? *index + count : *index;
    if (position >= 0 && position < count) Store(node, found->second[static_cast<std::size_t>(position)]);
  }

  void VisitCall(const Node& node) {
    const std::vector<const Node*> operands = TensorOperands(node);
    const bool any = std::any_of(operands.begin(), operands.end(),
                                 [&](const Node* operand) { return !Of(*operand).layout.is_replicated(); });
    const OpRule* rule = rules_.Find(node.op);
    // Whole operands, whole results: the op is the one of the whole program. A seed is drawn by each rank.
    if (!any && (rule == nullptr || rule->function != "draw_seed")) return;
    if (rule == nullptr) {
      Conflict(node, fmt::format("{} has no rule and reads a value that is not whole", node.op));
      return;
    }
    const Node* original = whole_ == nullptr ? nullptr : whole_->Find(node.name);
    if (original != nullptr && original->is_call() && TensorOperands(*original).size() == operands.size()) {
      (void)Derive(node, *original, *rule, operands, true);
      return;
    }
    DeriveFromShapes(node, *rule, operands);
  }

  // Without the whole program: the whole call has whole operands, and a result that is cut on one of its dims or on
  // none. The first that fits in all sizes is the one.
  void DeriveFromShapes(const Node& node, const OpRule& rule, const std::vector<const Node*>& operands) {
    Layout source;
    for (const Node* operand : operands) {
      if (Of(*operand).layout.is_sharded() && !source.is_sharded()) source = Of(*operand).layout;
    }
    Node copy;
    copy.kind = node.kind;
    copy.name = node.name;
    copy.op = node.op;
    copy.args = node.args;
    copy.attributes = node.attributes;
    copy.type = node.type;
    std::vector<std::unique_ptr<Node>> whole_operands;
    std::size_t next = 0;
    for (Node** slot : OperandSlots(copy)) {
      if (!(*slot)->type.is_tensor()) continue;
      const Node& operand = *operands[next++];
      whole_operands.push_back(std::make_unique<Node>());
      Node& stand_in = *whole_operands.back();
      stand_in.kind = operand.kind;
      stand_in.name = operand.name;
      stand_in.type = operand.type;
      stand_in.type.shape = WholeShape(operand.type.shape, Of(operand).layout).value_or(operand.type.shape);
      *slot = &stand_in;
    }
    int rank = 0;
    for (const Type* type : TensorsOf(copy.type)) rank = std::max(rank, type->rank());
    const Dim block = Block(source.length);
    for (int dim = source.is_sharded() ? rank - 1 : -1; dim >= -1; --dim) {
      copy.type = node.type;
      bool fits = true;
      for (Type* type : TensorsOf(copy.type)) {
        if (dim < 0 || dim >= type->rank()) continue;
        const std::optional<Dim> rest = ExactDiv(type->shape[dim], block);
        fits = fits && rest.has_value();
        if (rest) type->shape[dim] = *rest * source.length;
      }
      if (fits && Derive(node, copy, rule, operands, dim == -1)) return;
    }
  }

  // The layouts of the results, given the whole call; false when something contradicts (and `report` says whether that
  // is an error or only the wrong whole call).
  bool Derive(const Node& node, const Node& whole, const OpRule& rule, const std::vector<const Node*>& operands,
              bool report) {
    Expected<FactorMapping> mapping = MapFactors(whole, rule);
    if (!mapping.ok()) {
      if (report) status_.Append(mapping.status());
      return false;
    }
    if (mapping->makes_terms) {
      Store(node, KnownLayout{Layout::Partial(*mapping->makes_terms), {}});
      return true;
    }
    std::vector<std::string> problems;
    for (const std::string& conflict : mapping->size_conflicts)
      problems.push_back(fmt::format("{} in {}", conflict, node.op));
    if (mapping->random) problems.push_back(fmt::format("{} draws random numbers on a cut value", node.op));
    std::optional<FactorSharding> cut;
    if (problems.empty()) cut = CutOf(node, *mapping, operands, problems);
    std::vector<KnownLayout> results;
    if (problems.empty() && cut) {
      CheckOperands(node, *mapping, *cut, operands, problems);
      results = Results(node, whole, *mapping, *cut, problems);
    }
    if (report) {
      for (const std::string& problem : problems) Conflict(node, problem);
    }
    if (!problems.empty()) return false;
    if (cut) {
      facts_.layouts[&node] = std::move(results);
      facts_.cuts[&node] = CutCall{std::move(*mapping), *cut, operands};
    }
    return true;
  }

  // The one factor that all cut operands agree on; nothing when no operand that is read is cut.
  std::optional<FactorSharding> CutOf(const Node& node, const FactorMapping& mapping,
                                      const std::vector<const Node*>& operands,
                                      std::vector<std::string>& problems) const {
    std::optional<FactorSharding> cut;
    for (std::size_t i = 0; i < mapping.operands.size(); ++i) {
      const OperandFactors& operand = mapping.operands[i];
      const Node& value = *operands[i];
      const Layout& layout = Of(value).layout;
      if (!operand.read || layout.is_replicated()) continue;
      if (layout.is_partial()) {
        problems.push_back(fmt::format("{} reads %{}, which is {}", node.op, value.name, layout.ToString()));
        return std::nullopt;
      }
      std::optional<FactorSharding> here = ProjectLayout(layout, operand.dims, mapping.factors);
      if (!here || mapping.factors[here->factor].kind == FactorKind::kWhole) {
        problems.push_back(
            fmt::format("{} needs all of dim {} of %{}, which is cut there", node.op, layout.dim, value.name));
        return std::nullopt;
      }
      if (cut && !(*cut == *here)) {
        problems.push_back(fmt::format("{} reads %{} cut otherwise than its other operands", node.op, value.name));
        return std::nullopt;
      }
      cut = here;
    }
    return cut;
  }

  void CheckOperands(const Node& node, const FactorMapping& mapping, const FactorSharding& cut,
                     const std::vector<const Node*>& operands, std::vector<std::string>& problems) const {
    for (std::size_t i = 0; i < mapping.operands.size(); ++i) {
      const OperandFactors& operand = mapping.operands[i];
      if (operand.read && Of(*operands[i]).layout.is_replicated() &&
          LayoutUnder(cut, operand.dims, mapping.factors).is_sharded()) {
        problems.push_back(
            fmt::format("{} reads %{} whole, but its other operands are cut on that dim", node.op, operands[i]->name));
      }
    }
    const Factor& factor = mapping.factors[cut.factor];
    if (factor.kind != FactorKind::kReduction || graph_.IsDivisible(cut.length, graph_.axis_size())) return;
    const bool masked = mapping.neutral_operand >= 0 &&
                        Of(*operands[static_cast<std::size_t>(mapping.neutral_operand)]).tail == mapping.neutral_value;
    if (!masked) problems.push_back(fmt::format("{} sums over a padded dim whose tail was not masked", node.op));
  }

  std::vector<KnownLayout> Results(const Node& node, const Node& whole, const FactorMapping& mapping,
                                   const FactorSharding& cut, std::vector<std::string>& problems) const {
    const Factor& factor = mapping.factors[cut.factor];
    Type local = node.type;
    Type global = whole.type;
    const std::vector<Type*> here = TensorsOf(local);
    const std::vector<Type*> there = TensorsOf(global);
    std::vector<KnownLayout> tensors;
    for (std::size_t r = 0; r < mapping.results.size() && r < here.size(); ++r) {
      KnownLayout result;
      result.layout = LayoutUnder(cut, mapping.results[r], mapping.factors);
      if (result.layout.is_replicated() && factor.kind == FactorKind::kReduction) {
        result.layout = Layout::Partial(factor.reduce);
      }
      there[r]->layout = result.layout;
      if (LocalShape(graph_, *there[r]) != here[r]->shape) {
        problems.push_back(
            fmt::format("the local shape of %{} does not follow from its operands, which make it {} of "
                        "{}",
                        node.name, result.layout.ToString(), Print(whole.type)));
      }
      tensors.push_back(std::move(result));
    }
    if (node.type.is_tensor()) return tensors;
    // Indexed by element, tensors or not, as getitem does.
    std::vector<KnownLayout> elements(node.type.elements.size());
    std::size_t next = 0;
    for (std::size_t i = 0; i < elements.size(); ++i) {
      if (node.type.elements[i].is_tensor() && next < tensors.size()) elements[i] = tensors[next++];
    }
    return elements;
  }

  void VisitOutput(const Node& node) {
    for (const Node* value : node.operands()) {
      if (Of(*value).layout.is_partial()) {
        Conflict(*value, fmt::format("%{} is returned as a partial sum", value->name));
      }
    }
  }

  const Graph& graph_;
  const Graph* whole_;
  const RuleTable& rules_;
  PartitionFacts& facts_;
  Status status_;
};

}  // namespace

const KnownLayout& PartitionFacts::Of(const Node& node) const {
  static const KnownLayout kWhole;
  const auto found = layouts.find(&node);
  return found == layouts.end() || found->second.empty() ? kWhole : found->second.front();
}

Status DeriveLayouts(const Graph& partitioned, const Graph* whole, const RuleTable& rules, PartitionFacts& facts) {
  return Derivation(partitioned, whole, rules, facts).Run();
}

}  // namespace autosp
