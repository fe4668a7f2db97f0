#include "expand_kv_heads.h"

#include <autosp/sharding/attention_heads.h>

#include <fmt/format.h>

#include <numeric>
#include <tuple>

namespace autosp {
namespace {

class ExpandKvHeadsPass : public Pass {
 public:
  const char* name() const override { return "expand-kv-heads"; }
  Form form_in() const override { return Form::kNormalized; }
  Form form_out() const override { return Form::kNormalized; }
  const char* summary() const override { return "repeats kv heads where that lets the ranks compute or send less"; }

  Expected<bool> Run(Graph& graph, PassContext& context) const override {
    if (context.options.attention != "ulysses" || graph.axis_size() == 1) return false;
    bool changed = false;
    std::map<std::pair<std::string, std::int64_t>, Node*> made;  // A value read by several layers is repeated once.
    for (Node* node : AttentionsUnderCut(graph)) changed = Expand(graph, context, *node, made) || changed;
    return changed;
  }

 private:
  // The number of kv heads to repeat to; see the header.
  static std::int64_t Wanted(const AttentionHeads& heads, std::int64_t ranks) {
    const std::int64_t least = std::lcm(heads.key, heads.value);
    std::int64_t best = 0;
    std::tuple<std::int64_t, std::int64_t> best_cost;
    for (std::int64_t groups = least; groups <= heads.query; groups += least) {
      if (heads.query % groups != 0) continue;
      const std::int64_t slots = RoundUp(groups, ranks);
      const std::tuple cost{slots * (heads.query / groups), slots};
      if (best == 0 || cost < best_cost) {
        best = groups;
        best_cost = cost;
      }
    }
    return best;
  }

  bool Expand(Graph& graph, PassContext& context, Node& node,
              std::map<std::pair<std::string, std::int64_t>, Node*>& made) const {
    const std::optional<AttentionHeads> heads = HeadsOf(node);
    if (!heads) return false;
    const std::int64_t wanted = Wanted(*heads, graph.axis_size());
    if (wanted == 0 || (wanted == heads->key && wanted == heads->value)) return false;
    for (const int argument : {1, 2}) {
      Node* value = node.args[argument].node();
      const int dim = value->type.rank() - 3;
      const std::int64_t have = argument == 1 ? heads->key : heads->value;
      if (have == wanted) continue;
      Node*& repeated = made[{value->name, wanted}];
      if (repeated == nullptr) {
        Type type = value->type;
        type.shape[dim] = wanted;
        repeated = graph.InsertAfter(value->is_input() ? nullptr : value, value->name + "_heads",
                                     "aten.repeat_interleave.self_int", {value, wanted / have, dim}, type);
        repeated->provenance = node.provenance;
      }
      node.args[argument] = repeated;
    }
    // One kv head is broadcast without being asked for; several are grouped only on request.
    if (wanted != heads->query) node.set_attribute("enable_gqa", true);
    context.remarks.push_back(
        {name(), "%" + node.name,
         fmt::format("{} kv heads repeated to {} for {} ranks", heads->key, wanted, graph.axis_size()),
         node.provenance.location});
    return true;
  }
};

}  // namespace

std::unique_ptr<Pass> MakeExpandKvHeadsPass() { return std::make_unique<ExpandKvHeadsPass>(); }

}  // namespace autosp
