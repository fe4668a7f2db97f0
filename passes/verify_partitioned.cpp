#include "verify_partitioned.h"

#include <autosp/ir/printer.h>
#include <autosp/sharding/op_rules.h>

#include <fmt/format.h>

#include <algorithm>

namespace autosp {
namespace {

// What is known of one value on its way through the rewritten program.
struct Known {
  Layout layout = Layout::Replicated();  // length is the global length; major and minor are whole sizes
  Dim block = 0;                         // local size of the cut factor
  std::optional<double> tail;            // value of the padded tail, when it is known
};

class Derivation {
 public:
  Derivation(const Graph& graph, const PassContext& context) : graph_(graph), context_(context) {}

  Status Run() {
    for (const auto& node : graph_.nodes()) {
      if (node->is_input()) {
        known_[node.get()] = std::vector<Known>(1);
      } else if (node->is_output()) {
        VisitOutput(*node);
      } else if (node->op.starts_with("autosp.")) {
        VisitCollective(*node);
      } else {
        VisitCall(*node);
      }
    }
    return status_;
  }

 private:
  const Known& Of(const Node& node) const {
    static const Known kWhole;
    const auto found = known_.find(&node);
    return found == known_.end() || found->second.empty() ? kWhole : found->second.front();
  }

  void Conflict(const Node& node, std::string message) {
    status_.Add(Diagnostic{
        DiagnosticCode::kLayoutConflict, std::move(message), node.provenance.location, Describe(node), {}, ""});
  }

  static std::optional<Dim> DimOf(const Argument* argument) {
    if (argument == nullptr) return std::nullopt;
    if (const auto* value = argument->get<std::int64_t>()) return Dim(*value);
    const Node* node = argument->node();
    if (node != nullptr && node->type.kind == Type::Kind::kInt) return node->type.number;
    return std::nullopt;
  }

  // The layout that attributes name, with the block that a rank holds of it.
  std::optional<Known> Named(const Node& node, const std::string& prefix) {
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
    Known known;
    known.layout = Layout::Sharded(static_cast<int>(*number), *length, *major, *minor);
    known.block = Block(*length);
    return known;
  }

  Dim Block(const Dim& length) const {
    const std::int64_t ranks = graph_.axis_size();
    return graph_.IsDivisible(length, ranks) ? FloorDiv(length, ranks) : CeilDiv(length, ranks);
  }

  bool Expect(const Node& node, const Known& found, const Layout& wanted) {
    if (found.layout == wanted) return true;
    Conflict(node, fmt::format("{} takes a value that is {}, but %{} is {}", node.op, wanted.ToString(),
                               node.args[0].node()->name, found.layout.ToString()));
    return false;
  }

  void VisitCollective(const Node& node) {
    const Node* operand = node.args.empty() ? nullptr : node.args[0].node();
    if (operand == nullptr || !operand->type.is_tensor()) {
      if (node.op != "autosp.mesh_coordinate") Conflict(node, fmt::format("{} needs a tensor operand", node.op));
      return;
    }
    const Known& before = Of(*operand);
    Known after;
    if (node.op == "autosp.all_reduce") {
      if (!before.layout.is_partial()) {
        Conflict(node, fmt::format("all_reduce of %{}, which is {}", operand->name, before.layout.ToString()));
      } else if (const Argument* reduce = node.attribute("reduce");
                 reduce == nullptr || reduce->get<std::string>() == nullptr ||
                 *reduce->get<std::string>() != ToString(before.layout.reduce)) {
        Conflict(node, fmt::format("all_reduce of %{} by another operation than its {}", operand->name,
                                   ToString(before.layout.reduce)));
      }
      Store(node, after);
      return;
    }
    const std::optional<Known> named = Named(node, "");
    if (!named) return;
    if (node.op == "autosp.shard_slice") {
      Expect(node, before, Layout::Replicated());
      after = *named;
    } else if (node.op == "autosp.reduce_scatter") {
      if (!before.layout.is_partial()) {
        Conflict(node, fmt::format("reduce_scatter of %{}, which is {}", operand->name, before.layout.ToString()));
      }
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
      const std::optional<Known> to = Named(node, "to_");
      if (!to) return;
      after = *to;
    } else {
      Conflict(node, fmt::format("{} is no collective of a partitioned graph", node.op));
    }
    CheckShape(node, *operand, before, after);
    Store(node, after);
  }

  // The whole shape of a value: its local shape with the cut dim made global again.
  static std::vector<Dim> WholeShape(const Node& node, const Known& known) {
    std::vector<Dim> shape = node.type.shape;
    if (known.layout.is_sharded() && known.layout.dim < static_cast<int>(shape.size())) {
      shape[known.layout.dim] = known.layout.major * known.layout.length * known.layout.minor;
    }
    return shape;
  }

  // A collective changes where a value lies, never what it is: whole shapes before and after are equal, and the local
  // size of the cut dim is that of a block.
  void CheckShape(const Node& node, const Node& operand, const Known& before, const Known& after) {
    const auto fits = [&](const Node& value, const Known& known) {
      if (!known.layout.is_sharded()) return true;
      const int dim = known.layout.dim;
      return dim >= 0 && dim < value.type.rank() &&
             value.type.shape[dim] == known.layout.major * known.block * known.layout.minor;
    };
    if (!fits(operand, before) || !fits(node, after) || WholeShape(operand, before) != WholeShape(node, after)) {
      Conflict(node,
               fmt::format("{} gives {}, which does not follow from {}", node.op, Describe(node), Describe(operand)));
    }
  }

  void Store(const Node& node, const Known& known) { known_[&node] = {known}; }

  void VisitCall(const Node& node) {
    if (node.op == "builtin.getitem") {
      VisitGetItem(node);
      return;
    }
    bool any = false;
    for (const Node* operand : node.operands()) {
      const auto found = known_.find(operand);
      if (found == known_.end()) continue;
      any = any || std::any_of(found->second.begin(), found->second.end(),
                               [](const Known& known) { return !known.layout.is_replicated(); });
    }
    const OpRule* rule = context_.rules->Find(node.op);
    // Whole operands, whole results: the op is the one of the whole program. A seed is drawn by each rank.
    if (!any && (rule == nullptr || rule->function != "draw_seed")) return;
    if (rule == nullptr) {
      Conflict(node, fmt::format("{} has no rule and reads a value that is not whole", node.op));
      return;
    }
    Expected<FactorMapping> mapping = MapFactors(node, *rule);
    if (!mapping.ok()) {
      status_.Append(mapping.status());
      return;
    }
    Derive(node, *mapping);
  }

  void VisitGetItem(const Node& node) {
    const Node* tuple = node.args.empty() ? nullptr : node.args[0].node();
    const auto* index = node.args.size() < 2 ? nullptr : node.args[1].get<std::int64_t>();
    if (tuple == nullptr || index == nullptr) return;
    const auto found = known_.find(tuple);
    if (found == known_.end() || found->second.size() <= static_cast<std::size_t>(*index)) return;
    Store(node, found->second[*index]);
  }

  void Derive(const Node& node, const FactorMapping& mapping) {
    for (const std::string& conflict : mapping.size_conflicts)
      Conflict(node, fmt::format("{} in {}", conflict, node.op));
    if (mapping.random) Conflict(node, fmt::format("{} draws random numbers on a cut value", node.op));
    if (mapping.makes_terms) {
      Known term;
      term.layout = Layout::Partial(*mapping.makes_terms);
      Store(node, term);
      return;
    }
    std::optional<FactorSharding> cut;
    Known source;
    for (const OperandFactors& operand : mapping.operands) {
      const Known& known = Of(*operand.value);
      if (!operand.read || known.layout.is_replicated()) continue;
      if (known.layout.is_partial()) {
        Conflict(node, fmt::format("{} reads %{}, which is {}", node.op, operand.value->name, known.layout.ToString()));
        return;
      }
      // Shapes are local here, so the layout is projected with its block in place of its length.
      Layout local = known.layout;
      local.length = known.block;
      std::optional<FactorSharding> here = ProjectLayout(local, operand.dims, mapping.factors);
      if (!here || mapping.factors[here->factor].kind == FactorKind::kWhole) {
        Conflict(node, fmt::format("{} needs all of dim {} of %{}, which is cut there", node.op, known.layout.dim,
                                   operand.value->name));
        return;
      }
      if (cut && (!(*cut == *here) || source.layout.length != known.layout.length)) {
        Conflict(node, fmt::format("{} reads %{} cut otherwise than its other operands", node.op, operand.value->name));
        return;
      }
      cut = here;
      source = known;
    }
    if (!cut) return;
    for (const OperandFactors& operand : mapping.operands) {
      if (operand.read && Of(*operand.value).layout.is_replicated() &&
          LayoutUnder(*cut, operand.dims, mapping.factors).is_sharded()) {
        Conflict(node, fmt::format("{} reads %{} whole, but its other operands are cut on that dim", node.op,
                                   operand.value->name));
      }
    }
    StoreResults(node, mapping, *cut, source);
  }

  void StoreResults(const Node& node, const FactorMapping& mapping, const FactorSharding& cut, const Known& source) {
    const Factor& factor = mapping.factors[cut.factor];
    if (factor.kind == FactorKind::kReduction && !graph_.IsDivisible(source.layout.length, graph_.axis_size())) {
      const bool masked = mapping.neutral_operand >= 0 &&
                          Of(*mapping.operands[mapping.neutral_operand].value).tail == mapping.neutral_value;
      if (!masked) Conflict(node, fmt::format("{} sums over a padded dim whose tail was not masked", node.op));
    }
    std::vector<Known> results;
    for (const DimFactors& dims : mapping.results) {
      Known result;
      result.layout = LayoutUnder(cut, dims, mapping.factors);
      if (result.layout.is_sharded()) {
        result.layout.length = source.layout.length;
        result.block = source.block;
      } else if (factor.kind == FactorKind::kReduction) {
        result.layout = Layout::Partial(factor.reduce);
      }
      results.push_back(std::move(result));
    }
    if (node.type.is_tensor()) {
      known_[&node] = std::move(results);
      return;
    }
    // Indexed by element, tensors or not, as getitem does.
    std::vector<Known> elements(node.type.elements.size());
    std::size_t next = 0;
    for (std::size_t i = 0; i < elements.size(); ++i) {
      if (node.type.elements[i].is_tensor()) elements[i] = results[next++];
    }
    known_[&node] = std::move(elements);
  }

  void VisitOutput(const Node& node) {
    for (const Node* value : node.operands()) {
      const Known& known = Of(*value);
      if (known.layout.is_partial()) Conflict(*value, fmt::format("%{} is returned as a partial sum", value->name));
      if (known.layout.is_sharded() && context_.options.outputs != "sharded") {
        Conflict(*value, fmt::format("%{} is returned cut, but outputs=\"{}\"", value->name, context_.options.outputs));
      }
    }
  }

  const Graph& graph_;
  const PassContext& context_;
  std::map<const Node*, std::vector<Known>> known_;  // Looked up only.
  Status status_;
};

class VerifyPartitionedPass : public Pass {
 public:
  const char* name() const override { return "verify-partitioned"; }
  Form form_in() const override { return Form::kPartitioned; }
  Form form_out() const override { return Form::kPartitioned; }
  const char* summary() const override { return "derives every layout again from ops and collectives alone"; }
  Expected<bool> Run(Graph& graph, PassContext& context) const override {
    AUTOSP_RETURN_IF_ERROR(Derivation(graph, context).Run());
    return false;
  }
};

}  // namespace

std::unique_ptr<Pass> MakeVerifyPartitionedPass() { return std::make_unique<VerifyPartitionedPass>(); }

}  // namespace autosp
