#include "pad_attention_heads.h"

#include <autosp/sharding/attention_heads.h>

#include <fmt/format.h>

#include <map>

namespace autosp {
namespace {

class HeadPadding {
 public:
  HeadPadding(Graph& graph, PassContext& context) : graph_(graph), context_(context) {}

  bool Run() {
    bool changed = false;
    for (Node* node : AttentionsUnderCut(graph_)) changed = Visit(*node) || changed;
    return changed;
  }

 private:
  bool Visit(Node& node) {
    const std::int64_t ranks = graph_.axis_size();
    const std::optional<AttentionHeads> heads = HeadsOf(node);
    if (!heads || heads->key != heads->value || heads->key % ranks == 0) return false;
    const std::int64_t groups = RoundUp(heads->key, ranks);
    const std::int64_t slots = groups * (heads->query / heads->key);
    PadMask(node, heads->query, slots);
    node.args[0] = Pad(*node.args[0].node(), slots, node);
    node.args[1] = Pad(*node.args[1].node(), groups, node);
    node.args[2] = Pad(*node.args[2].node(), groups, node);
    DropEmpty(node, heads->query, slots);
    Report(node, heads->query, slots);
    return true;
  }

  // `value` with its heads, dim -3, followed by empty ones.
  Node* Pad(Node& value, std::int64_t heads, const Node& reader) {
    Node*& padded = made_[{value.name, heads}];
    if (padded != nullptr) return padded;
    const std::size_t dim = value.type.shape.size() - 3;
    const std::int64_t missing = heads - value.type.shape[dim].constant().value_or(heads);
    Type type = value.type;
    type.shape[dim] = heads;
    const bool shows = type.dtype == DType::kBool;  // A mask: true shows a key.
    padded = graph_.InsertAfter(
        value.is_input() ? nullptr : &value, value.name + "_padded", "aten.pad",
        {&value, Argument::List{0, 0, 0, 0, 0, missing}, "constant", shows ? Argument(1.0) : Argument(0.0)}, type);
    padded->provenance = reader.provenance;
    return padded;
  }

  void PadMask(Node& node, std::int64_t heads, std::int64_t slots) {
    Argument* mask = node.args.size() > 3 ? &node.args[3] : nullptr;
    for (auto& [name, argument] : node.attributes) {
      if (name == "attn_mask") mask = &argument;
    }
    Node* value = mask == nullptr ? nullptr : mask->node();
    if (value == nullptr || value->type.rank() < 3 || heads == 1) return;
    if (value->type.shape[value->type.shape.size() - 3] == Dim(heads)) *mask = Pad(*value, slots, node);
  }

  void DropEmpty(Node& node, std::int64_t heads, std::int64_t slots) {
    const int dim = node.type.rank() - 3;
    const Type whole = node.type;
    node.type.shape[dim] = slots;
    Node* kept = graph_.InsertAfter(&node, node.name + "_heads", "aten.slice.Tensor", {&node, dim, 0, heads}, whole);
    graph_.ReplaceUses(&node, kept, kept);
  }

  void Report(const Node& node, std::int64_t heads, std::int64_t slots) {
    context_.remarks.push_back({"pad-attention-heads", "%" + node.name,
                                fmt::format("{} of {} head slots are real: {} % of the attention is waste on {} ranks",
                                            heads, slots, (slots - heads) * 100 / slots, graph_.axis_size()),
                                node.provenance.location, 2 * heads < slots});
  }

  Graph& graph_;
  PassContext& context_;
  std::map<std::pair<std::string, std::int64_t>, Node*> made_;  // A value read by several layers is padded once.
};

class PadAttentionHeadsPass : public Pass {
 public:
  const char* name() const override { return "pad-attention-heads"; }
  Form form_in() const override { return Form::kNormalized; }
  Form form_out() const override { return Form::kNormalized; }
  const char* summary() const override { return "adds empty heads where the ranks do not divide them"; }
  Expected<bool> Run(Graph& graph, PassContext& context) const override {
    if (context.options.attention != "ulysses") return false;
    return HeadPadding(graph, context).Run();
  }
};

}  // namespace

std::unique_ptr<Pass> MakePadAttentionHeadsPass() { return std::make_unique<PadAttentionHeadsPass>(); }

}  // namespace autosp
