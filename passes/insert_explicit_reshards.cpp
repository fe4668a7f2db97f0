#include "insert_explicit_reshards.h"

#include <autosp/ir/printer.h>
#include <autosp/sharding/strategy.h>

namespace autosp {
namespace {

class ReshardInserter {
 public:
  ReshardInserter(Graph& graph, const PassContext& context) : graph_(graph), context_(context) {}

  Expected<bool> Run() {
    std::vector<Node*> calls;
    for (const auto& node : graph_.nodes()) {
      if (node->is_call()) calls.push_back(node.get());
    }
    for (Node* node : calls) AUTOSP_RETURN_IF_ERROR(VisitCall(*node));
    if (graph_.output() != nullptr) VisitOutput(*graph_.output());
    return changed_;
  }

 private:
  Status VisitCall(Node& node) {
    const OpRule* rule = context_.rules->Find(node.op);
    if (node.op == "builtin.getitem") return Status::Ok();
    if (rule ==
        nullptr) {  // No rule: propagate_shardings allowed it only with whole operands; partial ones are reduced.
      for (Node** slot : OperandSlots(node)) {
        if ((*slot)->type.is_tensor()) *slot = Reshard(**slot, Layout::Replicated(), node);
      }
      return Status::Ok();
    }
    AUTOSP_ASSIGN_OR_RETURN(const FactorMapping mapping, MapFactors(node, *rule));
    const Strategy strategy = StrategyOf(node, mapping, context_.options.attention == "ulysses");
    const std::vector<Node**> slots = OperandSlots(node);
    const bool padded = strategy.cut && mapping.factors[strategy.cut->factor].kind == FactorKind::kReduction &&
                        !graph_.IsDivisible(strategy.cut->length, graph_.axis_size());
    for (std::size_t i = 0; i < strategy.operands.size(); ++i) {
      if (strategy.operands[i].is_unset()) continue;
      Node*& slot = *slots[mapping.operands[i].slot];
      slot = Reshard(*slot, strategy.operands[i], node);
      if (padded && static_cast<int>(i) == mapping.neutral_operand && strategy.operands[i].is_sharded()) {
        slot = MaskPadding(*slot, mapping.neutral_value, node);
      }
    }
    BringBack(node, strategy);
    return Status::Ok();
  }

  // Case 2: what is computed differs from what readers were promised.
  void BringBack(Node& node, const Strategy& strategy) {
    if (!node.type.is_tensor() || strategy.results.empty() || strategy.results[0] == node.type.layout) return;
    const Layout promised = node.type.layout;
    node.type.layout = strategy.results[0];
    Node* back = MakeReshard(node, promised, node);
    graph_.ReplaceUses(&node, back, back);
  }

  void VisitOutput(Node& output) {
    for (Argument& argument : output.args) {
      Node* value = argument.node();
      if (value == nullptr || !value->type.is_tensor()) continue;
      if (value->type.layout.is_partial()) argument = Reshard(*value, Layout::Replicated(), *value);
      if (!value->type.layout.is_sharded()) continue;
      if (context_.options.outputs == "gathered") argument = Reshard(*value, Layout::Replicated(), *value);
      if (context_.options.outputs == "loss_only") {
        argument = Argument();
        changed_ = true;
      }
    }
  }

  // `value` in the layout `to`; itself when it lies so already.
  Node* Reshard(Node& value, const Layout& to, const Node& reader) {
    if (value.type.layout == to || (value.type.layout.is_unset() && to.is_replicated())) return &value;
    Node*& made = made_[{value.name, to.ToString()}];
    if (made == nullptr) made = MakeReshard(value, to, reader);
    return made;
  }

  Node* MakeReshard(Node& value, const Layout& to, const Node& reader) {
    Type type = value.type;
    type.layout = to;
    Node* reshard =
        graph_.InsertAfter(value.is_input() ? nullptr : &value, value.name + (to.is_sharded() ? "_sp" : "_whole"),
                           "autosp.reshard", {&value}, type);
    reshard->provenance = value.is_input() ? reader.provenance : value.provenance;
    changed_ = true;
    return reshard;
  }

  Node* MaskPadding(Node& value, double fill, const Node& reader) {
    Node*& made = made_[{value.name, "mask " + std::to_string(fill)}];
    if (made != nullptr) return made;
    made = graph_.InsertAfter(&value, value.name + "_masked", "autosp.mask_padding", {&value}, value.type);
    const bool floating = IsFloating(value.type.dtype);
    made->set_attribute("value", floating ? Argument(fill) : Argument(static_cast<std::int64_t>(fill)));
    made->provenance = reader.provenance;
    changed_ = true;
    return made;
  }

  Graph& graph_;
  const PassContext& context_;
  std::map<std::pair<std::string, std::string>, Node*> made_;
  bool changed_ = false;
};

class InsertExplicitReshardsPass : public Pass {
 public:
  const char* name() const override { return "insert-explicit-reshards"; }
  Form form_in() const override { return Form::kSharded; }
  Form form_out() const override { return Form::kResharded; }
  const char* summary() const override { return "every layout conflict becomes a reshard node"; }
  Expected<bool> Run(Graph& graph, PassContext& context) const override {
    AUTOSP_RETURN_IF_ERROR([&]() -> Status {
      Expected<bool> done = ReshardInserter(graph, context).Run();
      return done.ok() ? Status::Ok() : done.status();
    }());
    graph.set_form(Form::kResharded);
    return true;
  }
};

}  // namespace

std::unique_ptr<Pass> MakeInsertExplicitReshardsPass() { return std::make_unique<InsertExplicitReshardsPass>(); }

}  // namespace autosp
