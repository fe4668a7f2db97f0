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

// Pointwise by their rule, but the result may be the operand itself or share its memory.
constexpr std::array<std::string_view, 8> kMayAlias = {
    "aten.alias",    "aten.contiguous",      "aten.detach", "aten.to.device",
    "aten.to.dtype", "aten.to.dtype_layout", "aten.real",   "_c10d_functional.wait_tensor"};

// Results are memory of their own, whatever the rule needs whole.
constexpr std::array<std::string_view, 11> kCopies = {"aten._grouped_mm",
                                                      "aten.cat",
                                                      "aten.cumsum",
                                                      "aten.gather",
                                                      "aten.index.Tensor",
                                                      "aten.index_put",
                                                      "aten.index_select",
                                                      "aten.scatter.src",
                                                      "aten.scatter.value",
                                                      "aten.stack",
                                                      "transformers.grouped_mm_fallback"};

// Whether the result is known to be memory of its own: arithmetic, contractions, reductions, factories. Anything else
// (views, ops without a rule, constants of the module) counts as shared.
bool IsFresh(const Node& node, const RuleTable& rules) {
  if (node.op == "builtin.getitem" && node.args[0].node() != nullptr) {
    const std::string& producer = node.args[0].node()->op;
    return producer == "aten.topk" || producer == "aten.sort" || producer == "aten.max.dim";
  }
  if (node.is_call() && std::find(kCopies.begin(), kCopies.end(), node.op) != kCopies.end()) return true;
  const OpRule* rule = node.is_call() ? rules.Find(node.op) : nullptr;
  if (rule == nullptr || std::find(kMayAlias.begin(), kMayAlias.end(), node.op) != kMayAlias.end()) return false;
  if (!rule->is_function()) return true;
  constexpr std::array<std::string_view, 8> kFresh = {"reduce",  "pointwise",     "matmul",    "layer_norm",
                                                      "factory", "cross_entropy", "attention", "embedding"};
  return std::find(kFresh.begin(), kFresh.end(), rule->function) != kFresh.end();
}

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
    RemoveNoConversions();
    std::vector<Node*> calls;
    for (const auto& node : graph_.nodes()) {
      if (node->is_call()) calls.push_back(node.get());
    }
    users_ = graph_.Users();
    for (Node* node : calls) {
      if (node->op == "builtin.set_grad_enabled" && !node->args.empty() && node->args[0].get<bool>() != nullptr) {
        grad_mode_ = *node->args[0].get<bool>();
      }
      if (node->op == "aten.cross_entropy_loss" || node->op == "aten.nll_loss_nd") status_.Append(SplitLoss(*node));
      const OpRule* rule = rules_.Find(node->op);
      if (rule != nullptr && rule->function == "loss") status_.Append(SplitElementwiseLoss(*node, *rule));
      if (node->op == "aten.mean" || node->op == "aten.mean.dim") status_.Append(SplitMean(*node));
      if (const std::string name = OutOfPlaceName(node->op); !name.empty()) MakeOutOfPlace(*node, name);
    }
    if (!status_.ok()) return status_;
    return changed_;
  }

 private:
  // Case 4: a conversion to the dtype and device that the operand has returns the operand itself, unless a copy is
  // asked for or the memory format may change.
  static bool IsNoConversion(const Node& node) {
    if (node.op != "aten.to.dtype" && node.op != "aten.to.device" && node.op != "aten.to.dtype_layout") return false;
    const Node* operand = node.args.empty() ? nullptr : node.args[0].node();
    if (operand == nullptr || !operand->type.is_tensor() || !node.type.is_tensor()) return false;
    const std::size_t positional = node.op == "aten.to.device" ? 3 : node.op == "aten.to.dtype" ? 2 : 1;
    if (node.args.size() > positional) return false;
    for (const auto& [name, argument] : node.attributes) {
      if (name != "dtype" && name != "device" && name != "layout" && name != "pin_memory") return false;
    }
    return node.type.dtype == operand->type.dtype && node.type.device == operand->type.device;
  }

  // First, so that what follows sees a value and what only has another name for it as one.
  void RemoveNoConversions() {
    std::map<const Node*, Node*> replacements;  // Looked up only.
    for (const auto& node : graph_.nodes()) {
      if (node->is_call() && IsNoConversion(*node)) replacements[node.get()] = node->args[0].node();
    }
    graph_.ReplaceUses(replacements);
    changed_ = graph_.RemoveIf([&](const Node& node) { return replacements.contains(&node); }) > 0;
  }

  Status SplitLoss(Node& node) {
    const OpRule* rule = rules_.Find(node.op);
    if (rule == nullptr) return Status::Ok();
    const CallArguments arguments(node, *rule);
    const Argument* target = arguments.Find("target");
    if (arguments.Int("reduction").value_or(kMeanReduction) != kMeanReduction || target == nullptr ||
        target->node() == nullptr || node.args.empty() || node.args[0].node() == nullptr) {
      return Status::Ok();
    }
    const std::int64_t ignored = arguments.Int("ignore_index").value_or(-100);
    Node* labels = target->node();
    Argument positions;  // Of probabilities: the number of them.
    if (IsFloating(labels->type.dtype)) {
      const std::vector<Dim>& shape = node.args[0].node()->type.shape;
      Dim count = 1;
      for (std::size_t dim = 0; dim < shape.size(); ++dim)
        count = dim == std::min<std::size_t>(1, shape.size() - 1) ? count : count * shape[dim];
      AUTOSP_ASSIGN_OR_RETURN(positions, symbols_.Materialize(count));
    }
    if (const Argument* weight = arguments.Find("weight"); weight != nullptr && weight->node() != nullptr &&
                                                           weight->node()->type.requires_grad &&
                                                           arguments.Double("label_smoothing", 0) != 0) {
      return Diagnostic{DiagnosticCode::kUnsupportedForm,
                        fmt::format("{} takes the mean with label smoothing and the trained class weights %{}: its "
                                    "gradient for them is that of no sum and count",
                                    node.op, weight->node()->name),
                        node.provenance.location,
                        Describe(node),
                        {},
                        "detach the class weights, or divide a sum yourself"};
    }
    SetParameter(node, *rule, "reduction", kSumReduction);
    const Type whole = node.type;
    if (IsLowPrecision(whole.dtype)) {
      // A mean accumulates in f32; its sum alone would overflow f16 and be rounded in bf16.
      for (const char* parameter : {"self", "weight"}) Widen(node, *rule, parameter);
      node.type.dtype = DType::kF32;
    }
    const Argument* weight = CallArguments(node, *rule).Find("weight");
    std::vector<Node*> made;
    if (!positions.is_none()) {
      made.push_back(graph_.InsertAfter(&node, node.name + "_mean", "aten.div.Scalar", {&node, positions}, node.type));
    } else {
      const bool weighted = weight != nullptr && weight->node() != nullptr;
      made = weighted ? SumOfWeights(node, *labels, ignored, *weight->node()) : Count(node, *labels, ignored);
      made.push_back(
          graph_.InsertAfter(made.back(), node.name + "_mean", "aten.div.Tensor", {&node, made.back()}, node.type));
    }
    Node* mean = made.back();
    made.push_back(Narrow(mean, whole));
    Finish(node, mean, made);
    return Status::Ok();
  }

  // The tensor of a parameter in f32; nothing where it has none.
  void Widen(Node& node, const OpRule& rule, std::string_view parameter) {
    Argument* argument = nullptr;
    for (std::size_t i = 0; i < rule.parameters.size() && i < node.args.size(); ++i) {
      if (rule.parameters[i] == parameter) argument = &node.args[i];
    }
    for (auto& [name, value] : node.attributes) {
      if (name == parameter) argument = &value;
    }
    if (argument == nullptr || argument->node() == nullptr) return;
    Node* narrow = argument->node();
    Type wide = narrow->type;
    wide.dtype = DType::kF32;
    *argument = graph_.InsertBefore(&node, narrow->name + "_f32", "aten.to.dtype",
                                    {narrow, Argument::Dtype(DType::kF32)}, wide);
  }

  std::vector<Node*> Count(const Node& loss, Node& labels, std::int64_t ignored) {
    Node* valid = graph_.InsertAfter(&loss, loss.name + "_valid", "aten.ne.Scalar", {&labels, ignored},
                                     On(labels, DType::kBool, labels.type.shape));
    return {valid, graph_.InsertAfter(valid, loss.name + "_count", "aten.sum", {valid}, On(labels, DType::kI64, {}))};
  }

  // With class weights the mean divides by the sum of the weights of all labels that count.
  std::vector<Node*> SumOfWeights(const Node& loss, Node& labels, std::int64_t ignored, Node& weight) {
    const std::string& name = loss.name;
    const Dim count = Product(labels.type.shape);
    std::vector<Node*> made;
    const auto add = [&](const char* suffix, const char* op, std::vector<Argument> args, Type type) {
      made.push_back(
          graph_.InsertAfter(made.empty() ? &loss : made.back(), name + suffix, op, std::move(args), std::move(type)));
      return made.back();
    };
    Type picked_type = weight.type;
    picked_type.shape = {count};
    picked_type.requires_grad = false;
    Type total_type = picked_type;
    total_type.shape = {};
    Node* valid = add("_valid", "aten.ne.Scalar", {&labels, ignored}, On(labels, DType::kBool, labels.type.shape));
    Node* known = add("_known", "aten.mul.Tensor", {&labels, valid}, labels.type);  // Class 0 where it is ignored.
    Node* index = add("_index", "aten.reshape", {known, Argument::List{-1}}, On(labels, labels.type.dtype, {count}));
    Type constant = weight.type;
    constant.requires_grad = false;
    Node* fixed = add("_weight", "aten.detach", {&weight}, constant);  // The op has no gradient for it.
    Node* picked = add("_picked", "aten.index_select", {fixed, 0, index}, picked_type);
    Node* counts = add("_counts", "aten.reshape", {valid, Argument::List{-1}}, On(labels, DType::kBool, {count}));
    Node* weights = add("_weights", "aten.mul.Tensor", {picked, counts}, picked_type);
    add("_count", "aten.sum", {weights}, total_type);
    return made;
  }

  // Case 5: the sum or mean of a loss element by element is the loss of each element, summed and divided.
  Status SplitElementwiseLoss(Node& node, const OpRule& rule) {
    const std::int64_t reduction = CallArguments(node, rule).Int("reduction").value_or(kMeanReduction);
    if (reduction != kMeanReduction && reduction != kSumReduction) return Status::Ok();
    const Node* first = node.args.empty() ? nullptr : node.args[0].node();
    if (first == nullptr || !node.type.is_tensor()) return Status::Ok();
    for (const Node* operand : node.operands()) {  // Nothing decides the shape but the first operand.
      if (operand->type.is_tensor() && operand->type.rank() > first->type.rank()) return Status::Ok();
      if (operand->type.is_tensor() && operand->type.rank() == first->type.rank() &&
          operand->type.shape != first->type.shape) {
        return Status::Ok();
      }
    }
    Argument divisor;
    if (reduction == kMeanReduction) {
      AUTOSP_ASSIGN_OR_RETURN(divisor, symbols_.Materialize(Product(first->type.shape)));
    }
    const Type whole = node.type;
    SetParameter(node, rule, "reduction", 0);
    node.type.shape = first->type.shape;
    node.origin = -1;
    std::vector<Argument> summed = {&node};
    Node* sum = graph_.InsertAfter(&node, node.name + "_sum", "aten.sum", std::move(summed), whole);
    if (IsLowPrecision(whole.dtype)) {
      sum->set_attribute("dtype", Argument::Dtype(DType::kF32));
      sum->type.dtype = DType::kF32;
    }
    std::vector<Node*> made = {sum};
    if (reduction == kMeanReduction) {
      made.push_back(graph_.InsertAfter(sum, node.name + "_mean", "aten.div.Scalar", {sum, divisor}, sum->type));
    }
    made.push_back(Narrow(made.back(), whole));
    Finish(node, sum, made);
    return Status::Ok();
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
    const Type whole = node.type;
    if (IsLowPrecision(whole.dtype)) {
      node.remove_attribute("dtype");
      if (node.args.size() > rule->parameters.size() - 1) node.args.resize(rule->parameters.size() - 1);
      node.set_attribute("dtype", Argument::Dtype(DType::kF32));
      node.type.dtype = DType::kF32;
    }
    const bool over_dims = node.op == "aten.mean.dim";
    node.op = over_dims ? "aten.sum.dim_IntList" : "aten.sum";
    node.origin = -1;
    Node* mean = graph_.InsertAfter(&node, node.name + "_mean", "aten.div.Scalar", {&node, divisor}, node.type);
    Finish(node, mean, {mean, Narrow(mean, whole)});
    return Status::Ok();
  }

  void MakeOutOfPlace(Node& node, const std::string& name) {
    Node* written = node.args.empty() ? nullptr : node.args[0].node();
    std::string why = WhyVisible(node, written);
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

  // Why somebody could tell the out-of-place form from the write; empty when nobody can.
  std::string WhyVisible(const Node& node, const Node* written) {
    if (written == nullptr) return "its first operand is no tensor";
    if (written->is_input()) return "it changes an input of the graph";
    if (!IsFresh(*written, rules_)) return fmt::format("%{} may share memory with another value", written->name);
    if (!grad_mode_ && written->type.requires_grad) {
      return fmt::format("gradients are off here, and %{} keeps the gradient it has", written->name);
    }
    for (const Node* user : users_[written]) {
      if (user == &node) break;
      if (!IsFresh(*user, rules_)) return fmt::format("%{} may be a view of it", user->name);
    }
    // The out-of-place form would promote, the write does not. Elements that are only moved are never promoted.
    if (node.op.starts_with("aten.scatter_.") || node.op == "aten.index_put_") return "";
    for (const Node* operand : node.operands()) {
      if (operand->type.is_tensor() && operand->type.dtype != written->type.dtype && !operand->type.shape.empty() &&
          operand->type.dtype != DType::kBool) {
        return fmt::format("%{} has another dtype than %{}", operand->name, written->name);
      }
    }
    return "";
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

  static bool IsLowPrecision(DType dtype) { return dtype == DType::kF16 || dtype == DType::kBF16; }

  static Type On(const Node& like, DType dtype, std::vector<Dim> shape) {
    Type type = Type::Tensor(dtype, std::move(shape));
    type.device = like.type.device;
    return type;
  }

  // `value` in the dtype that the op had; itself when it has it.
  Node* Narrow(Node* value, const Type& whole) {
    if (value->type.dtype == whole.dtype) return value;
    return graph_.InsertAfter(value, value->name + "_cast", "aten.to.dtype", {value, Argument::Dtype(whole.dtype)},
                              whole);
  }

  // The last of `made` takes the place of `node`; `reader` is the one of them that reads it.
  void Finish(Node& node, const Node* reader, const std::vector<Node*>& made) {
    for (Node* value : made) value->provenance = node.provenance;
    graph_.ReplaceUses(&node, made.back(), reader);
    changed_ = true;
  }

  Graph& graph_;
  const RuleTable& rules_;
  SymBuilder symbols_;
  std::map<const Node*, std::vector<Node*>> users_;
  Status status_;
  bool grad_mode_ = true;  // At the node that is visited.
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
