#include "normalize_captured_ops.h"

#include <autosp/ir/printer.h>
#include <autosp/ir/sym_builder.h>
#include <autosp/sharding/op_rules.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace autosp {
namespace {

constexpr std::int64_t kMeanReduction = 1;
constexpr std::int64_t kSumReduction = 2;

// Ops whose result may share memory with their first operand.
constexpr std::array<std::string_view, 23> kViewOps = {"aten.view",
                                                       "aten.reshape",
                                                       "aten.transpose.int",
                                                       "aten.permute",
                                                       "aten.expand",
                                                       "aten.slice.Tensor",
                                                       "aten.select.int",
                                                       "aten.unsqueeze",
                                                       "aten.squeeze.dim",
                                                       "aten.t",
                                                       "aten.detach",
                                                       "aten.alias",
                                                       "aten.chunk",
                                                       "aten.split.Tensor",
                                                       "aten.split_with_sizes",
                                                       "aten.unbind.int",
                                                       "aten.unflatten.int",
                                                       "aten.flatten.using_ints",
                                                       "aten.contiguous",
                                                       "aten.to.dtype",
                                                       "aten.to.device",
                                                       "aten.to.dtype_layout",
                                                       "builtin.getitem"};

bool IsView(const Node& node) { return std::find(kViewOps.begin(), kViewOps.end(), node.op) != kViewOps.end(); }

// "aten.add_.Tensor" -> "aten.add.Tensor"; empty when the op does not write to its operand.
std::string OutOfPlaceName(const std::string& op) {
  if (!op.starts_with("aten.")) return "";
  const std::size_t dot = op.find('.', 5);
  const std::size_t end = dot == std::string::npos ? op.size() : dot;
  if (op[end - 1] != '_' || op[end - 2] == '_') return "";
  return op.substr(0, end - 1) + op.substr(end);
}

class Normalizer {
 public:
  Normalizer(Graph& graph, const RuleTable& rules) : graph_(graph), rules_(rules), symbols_(graph) {}

  Expected<bool> Run() {
    std::vector<Node*> calls;
    for (const auto& node : graph_.nodes()) {
      if (node->is_call()) calls.push_back(node.get());
    }
    users_ = graph_.Users();
    for (Node* node : calls) {
      if (node->op == "aten.cross_entropy_loss" || node->op == "aten.nll_loss_nd") SplitLoss(*node);
      if (node->op == "aten.mean" || node->op == "aten.mean.dim") status_.Append(SplitMean(*node));
      if (const std::string name = OutOfPlaceName(node->op); !name.empty()) MakeOutOfPlace(*node, name);
    }
    if (!status_.ok()) return status_;
    return changed_;
  }

 private:
  void SplitLoss(Node& node) {
    const OpRule* rule = rules_.Find(node.op);
    if (rule == nullptr) return;
    const CallArguments arguments(node, *rule);
    const Argument* target = arguments.Find("target");
    if (arguments.Int("reduction").value_or(kMeanReduction) != kMeanReduction || arguments.Find("weight") != nullptr ||
        target == nullptr || target->node() == nullptr || IsFloating(target->node()->type.dtype)) {
      return;
    }
    const std::int64_t ignored = arguments.Int("ignore_index").value_or(-100);
    Node* labels = target->node();
    SetParameter(node, *rule, "reduction", kSumReduction);
    Node* valid = graph_.InsertAfter(&node, node.name + "_valid", "aten.ne.Scalar", {labels, ignored},
                                     Type::Tensor(DType::kBool, labels->type.shape));
    Node* count = graph_.InsertAfter(valid, node.name + "_count", "aten.sum", {valid}, Type::Tensor(DType::kI64, {}));
    Node* mean = graph_.InsertAfter(count, node.name + "_mean", "aten.div.Tensor", {&node, count}, node.type);
    Finish(node, {valid, count, mean});
  }

  Status SplitMean(Node& node) {
    const OpRule* rule = rules_.Find(node.op);
    if (rule == nullptr || node.args.empty() || node.args[0].node() == nullptr) return Status::Ok();
    const CallArguments arguments(node, *rule);
    const std::vector<Dim>& shape = node.args[0].node()->type.shape;
    const int rank = static_cast<int>(shape.size());
    std::vector<std::int64_t> dims = arguments.Ints("dim");
    Dim count = dims.empty() ? Product(shape) : Dim(1);
    bool only_last = !dims.empty();
    for (std::int64_t& dim : dims) {
      if (dim < 0) dim += rank;
      if (dim < 0 || dim >= rank) return Status::Ok();
      count = count * shape[dim];
      only_last = only_last && dim == rank - 1;
    }
    if (only_last) return Status::Ok();
    AUTOSP_ASSIGN_OR_RETURN(Argument divisor, symbols_.Materialize(count));
    const bool over_dims = node.op == "aten.mean.dim";
    node.op = over_dims ? "aten.sum.dim_IntList" : "aten.sum";
    node.origin = -1;
    Node* mean = graph_.InsertAfter(&node, node.name + "_mean", "aten.div.Scalar", {&node, divisor}, node.type);
    Finish(node, {mean});
    return Status::Ok();
  }

  void MakeOutOfPlace(Node& node, const std::string& name) {
    Node* written = node.args.empty() ? nullptr : node.args[0].node();
    std::string why;
    if (written == nullptr) {
      why = "its first operand is no tensor";
    } else if (written->is_input()) {
      why = "it changes an input of the graph";
    } else if (IsView(*written)) {
      why = fmt::format("%{} may share memory with another value", written->name);
    } else {
      for (const Node* user : users_[written]) {
        if (user == &node) break;
        if (IsView(*user)) why = fmt::format("%{} is a view of it", user->name);
      }
    }
    if (why.empty() && rules_.Find(name) == nullptr) why = fmt::format("no rule for the out-of-place form {}", name);
    if (!why.empty()) {
      status_.Add(Diagnostic{DiagnosticCode::kMutatedInput,
                             fmt::format("{} writes to its operand: {}", node.op, why),
                             node.provenance.location,
                             Describe(node),
                             {},
                             ""});
      return;
    }
    node.op = name;
    node.origin = -1;
    changed_ = true;
    // Readers that come later see what was written; those before it keep the old value.
    bool after = false;
    for (const auto& reader : graph_.nodes()) {
      if (reader.get() == &node) {
        after = true;
      } else if (after) {
        for (Argument& argument : reader->args) Redirect(argument, written, &node);
        for (auto& [key, argument] : reader->attributes) Redirect(argument, written, &node);
      }
    }
    users_ = graph_.Users();
  }

  static void Redirect(Argument& argument, const Node* from, Node* to) {
    ForEachNode(argument, [&](Node*& value) {
      if (value == from) value = to;
    });
  }

  static void SetParameter(Node& node, const OpRule& rule, std::string_view parameter, std::int64_t value) {
    for (std::size_t i = 0; i < rule.parameters.size() && i < node.args.size(); ++i) {
      if (rule.parameters[i] == parameter) {
        node.args[i] = value;
        return;
      }
    }
    node.set_attribute(parameter, value);
  }

  // The last of `made` takes the place of `node`.
  void Finish(Node& node, const std::vector<Node*>& made) {
    for (Node* value : made) value->provenance = node.provenance;
    graph_.ReplaceUses(&node, made.back(), made.back());

    changed_ = true;
  }

  Graph& graph_;
  const RuleTable& rules_;
  SymBuilder symbols_;
  std::map<const Node*, std::vector<Node*>> users_;
  Status status_;
  bool changed_ = false;
};

class NormalizeCapturedOpsPass : public Pass {
 public:
  const char* name() const override { return "normalize-captured-ops"; }
  Form form_in() const override { return Form::kCaptured; }
  Form form_out() const override { return Form::kNormalized; }
  const char* summary() const override { return "canonical functional ops; mean losses become a sum and a count"; }
  Expected<bool> Run(Graph& graph, PassContext& context) const override {
    Expected<bool> changed = Normalizer(graph, *context.rules).Run();
    if (changed.ok()) graph.set_form(Form::kNormalized);
    return changed.ok() ? Expected<bool>(true) : changed;
  }
};

}  // namespace

std::unique_ptr<Pass> MakeNormalizeCapturedOpsPass() { return std::make_unique<NormalizeCapturedOpsPass>(); }

}  // namespace autosp
