#include "expand_kv_heads.h"

#include <fmt/format.h>

#include <numeric>

namespace autosp {
namespace {

constexpr const char* kAttention = "aten.scaled_dot_product_attention";

class ExpandKvHeadsPass : public Pass {
 public:
  const char* name() const override { return "expand-kv-heads"; }
  Form form_in() const override { return Form::kNormalized; }
  Form form_out() const override { return Form::kNormalized; }
  const char* summary() const override { return "repeats kv heads where the ranks outnumber them"; }

  Expected<bool> Run(Graph& graph, PassContext& context) const override {
    if (context.options.attention != "ulysses") return false;
    std::vector<Node*> attentions;
    for (const auto& node : graph.nodes()) {
      if (node->is_call(kAttention) && node->args.size() >= 3) attentions.push_back(node.get());
    }
    bool changed = false;
    std::map<std::pair<std::string, std::int64_t>, Node*> made;  // A value read by several layers is repeated once.
    for (Node* node : attentions) changed = Expand(graph, context, *node, made) || changed;
    return changed;
  }

 private:
  bool Expand(Graph& graph, PassContext& context, Node& node,
              std::map<std::pair<std::string, std::int64_t>, Node*>& made) const {
    const std::int64_t ranks = graph.axis_size();
    const auto heads_of = [&](int argument) -> std::int64_t {
      const Node* value = node.args[argument].node();
      if (value == nullptr || value->type.rank() < 3) return 0;
      return value->type.shape[value->type.shape.size() - 3].constant().value_or(0);
    };
    const std::int64_t heads = heads_of(0);
    const std::int64_t groups = heads_of(1);
    if (heads == 0 || groups == 0 || groups != heads_of(2) || heads % groups != 0) return false;
    if (heads % ranks != 0 || groups % ranks == 0) return false;
    std::int64_t wanted = std::lcm(groups, ranks);
    if (heads % wanted != 0) wanted = heads;
    for (const int argument : {1, 2}) {
      Node* value = node.args[argument].node();
      Node*& repeated = made[{value->name, wanted}];
      if (repeated == nullptr) {
        const int dim = value->type.rank() - 3;
        Type type = value->type;
        type.shape[dim] = wanted;
        repeated = graph.InsertAfter(value->is_input() ? nullptr : value, value->name + "_heads",
                                     "aten.repeat_interleave.self_int", {value, wanted / groups, dim}, type);
        repeated->provenance = node.provenance;
      }
      node.args[argument] = repeated;
    }
    context.remarks.push_back({name(), "%" + node.name,
                               fmt::format("{} kv heads repeated to {} for {} ranks", groups, wanted, ranks),
                               node.provenance.location});
    return true;
  }
};

}  // namespace

std::unique_ptr<Pass> MakeExpandKvHeadsPass() { return std::make_unique<ExpandKvHeadsPass>(); }

}  // namespace autosp
