#include <autosp/ir/requires_grad.h>

#include <algorithm>
#include <iterator>
#include <string_view>

namespace autosp {
namespace {

void SetRequiresGrad(Type& type, bool wanted) {
  if (type.is_tensor()) type.requires_grad = wanted && IsFloating(type.dtype);
  for (Type& element : type.elements) SetRequiresGrad(element, wanted);
}

// "aten.zeros_like.out" -> "zeros_like"; empty for other namespaces.
std::string_view AtenName(std::string_view op) {
  constexpr std::string_view kAten = "aten.";
  if (!op.starts_with(kAten)) return {};
  op.remove_prefix(kAten.size());
  return op.substr(0, op.find('.'));
}

// Ops whose floating result does not depend differentiably on the values of their tensor operands.
bool CutsGradient(const Node& node) {
  constexpr std::string_view kShapeOnly[] = {"empty_like", "full_like",    "new_empty",  "new_empty_strided",
                                             "new_full",   "new_ones",     "new_zeros",  "ones_like",
                                             "rand_like",  "randint_like", "randn_like", "zeros_like"};
  const std::string_view name = AtenName(node.op);
  if (name.starts_with("detach")) return true;
  return std::find(std::begin(kShapeOnly), std::end(kShapeOnly), name) != std::end(kShapeOnly);
}

// The element that builtin.getitem(%tuple, index) takes, or null.
const Type* TakenElement(const Node& node) {
  if (!node.is_call("builtin.getitem") || node.args.size() != 2) return nullptr;
  const Node* tuple = node.args[0].node();
  const std::int64_t* index = node.args[1].get<std::int64_t>();
  if (!tuple || !index || tuple->type.kind != Type::Kind::kTuple) return nullptr;
  const auto count = static_cast<std::int64_t>(tuple->type.elements.size());
  const std::int64_t position = *index < 0 ? *index + count : *index;
  if (position < 0 || position >= count) return nullptr;
  return &tuple->type.elements[static_cast<std::size_t>(position)];
}

}  // namespace

void InferRequiresGrad(Graph& graph) {
  bool grad_mode = true;
  for (const auto& node : graph.nodes()) {
    if (!node->is_call()) continue;
    if (node->op == "builtin.set_grad_enabled" && !node->args.empty()) {
      if (const bool* mode = node->args[0].get<bool>()) grad_mode = *mode;
      continue;
    }
    if (const Type* element = TakenElement(*node)) {
      SetRequiresGrad(node->type,
                      RequiresGrad(*element));  // Taking a tuple apart is no operation: the mode is not asked.
      continue;
    }
    bool wanted = false;
    if (grad_mode && !CutsGradient(*node)) {
      for (const Node* operand : node->operands()) wanted = wanted || RequiresGrad(operand->type);
    }
    SetRequiresGrad(node->type, wanted);
  }
}

}  // namespace autosp
