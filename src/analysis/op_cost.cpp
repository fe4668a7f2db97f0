#include <autosp/analysis/op_cost.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace autosp {
namespace {

// Without the overload: "aten.view.dtype" is "aten.view".
std::string_view BaseName(std::string_view op) {
  if (!op.starts_with("aten.")) return op;
  return op.substr(0, op.find('.', 5));
}

std::string_view BaseName(const Node& node) { return BaseName(std::string_view(node.op)); }

template <std::size_t N>
bool IsOneOf(std::string_view name, const std::array<std::string_view, N>& names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

constexpr std::array<std::string_view, 42> kViews = {
    "aten.view",           "aten._unsafe_view",    "aten.t",
    "aten.transpose",      "aten.permute",         "aten.expand",
    "aten.unsqueeze",      "aten.squeeze",         "aten.slice",
    "aten.select",         "aten.alias",           "aten.detach",
    "aten.split",          "aten.as_strided",      "aten.split_with_sizes",
    "aten.unbind",         "aten.chunk",           "aten.narrow",
    "aten.diagonal",       "aten.movedim",         "aten.unfold",
    "aten.view_as_real",   "aten.view_as_complex", "aten.unflatten",
    "aten.flatten",        "aten.expand_as",       "_c10d_functional.wait_tensor",
    "aten._conj",          "aten._neg_view",       "aten._reshape_alias",
    "aten.lift_fresh",     "aten.slice_inverse",   "prims.broadcast_in_dim",
    "prims.collapse_view", "prims.conj",           "prims.imag",
    "prims.real",          "prims.split_dim",      "prims.squeeze",
    "prims.transpose",     "prims.view_of",        "prims.view_of_dtype"};

constexpr std::array<std::string_view, 15> kRandom = {
    "aten.native_dropout", "aten.bernoulli",   "aten.rand",         "aten.randn",    "aten.randint",
    "aten.rand_like",      "aten.randn_like",  "aten.randint_like", "aten.randperm", "aten.normal",
    "aten.uniform",        "aten.multinomial", "aten.dropout",      "aten.poisson",  "aten.exponential"};

double Size(const Type& type, const SymbolValues& values) {
  double count = 1;
  for (const Dim& dim : type.shape) count *= static_cast<double>(dim.Evaluate(values).value_or(1024));
  return count;
}

double SizeOf(const Type& type, int dim, const SymbolValues& values) {
  const int index = dim < 0 ? dim + type.rank() : dim;
  if (index < 0 || index >= type.rank()) return 1;
  return static_cast<double>(type.shape[index].Evaluate(values).value_or(1024));
}

const Type* OperandType(const Node& node, std::size_t index) {
  const Node* operand = index < node.args.size() ? node.args[index].node() : nullptr;
  return operand != nullptr && operand->type.is_tensor() ? &operand->type : nullptr;
}

const Type& FirstResult(const Node& node) {
  return node.type.is_tensor() || node.type.elements.empty() ? node.type : node.type.elements.front();
}

bool IsCausal(const Node& node) {
  const Argument* named = node.attribute("is_causal");
  const bool* value = named == nullptr ? nullptr : named->get<bool>();
  for (std::size_t i = 3; i < node.args.size() && value == nullptr; ++i) {
    if (const bool* flag = node.args[i].get<bool>(); flag != nullptr && *flag) value = flag;
  }
  return value != nullptr && *value;
}

}  // namespace

bool IsView(const Node& node) {
  if (!node.is_call()) return false;
  if (node.op == "builtin.getitem") {
    const Node* tuple = node.args.empty() ? nullptr : node.args[0].node();
    return tuple != nullptr && IsView(*tuple);
  }
  return IsViewOp(node.op);
}

bool IsViewOp(std::string_view op) { return IsOneOf(BaseName(op), kViews); }

bool IsAttention(const Node& node) {
  const std::string_view name = BaseName(node);
  const bool known = name.starts_with("aten.scaled_dot_product_") || name.starts_with("aten._scaled_dot_product_") ||
                     name.starts_with("flash_attn.") || name.starts_with("torch.higher_order.flex_attention");
  return node.is_call() && known && name.find("backward") == std::string_view::npos;
}

bool DrawsRandomNumbers(const Node& node) {
  if (!node.is_call()) return false;
  if (IsOneOf(BaseName(node), kRandom) || node.op.find("rng_state") != std::string::npos) return true;
  if (!IsAttention(node)) return false;
  // dropout_p is the only number above 0 by position; scale is given by name.
  const Argument* named = node.attribute("dropout_p");
  if (named != nullptr && named->get<double>() != nullptr && *named->get<double>() > 0) return true;
  return std::any_of(node.args.begin() + std::min<std::ptrdiff_t>(3, std::ssize(node.args)), node.args.end(),
                     [](const Argument& a) { return a.get<double>() != nullptr && *a.get<double>() > 0; });
}

bool IsCollective(const Node& node) {
  return node.is_call() && (node.op.starts_with("_c10d_functional.") || node.op.starts_with("autosp_rt.") ||
                            node.op.starts_with("autosp."));
}

double Bytes(const Type& type, const SymbolValues& values) {
  double bytes = type.is_tensor() ? Size(type, values) * ByteSize(type.dtype) : 0;
  for (const Type& element : type.elements) bytes += Bytes(element, values);
  return bytes;
}

double Flops(const Node& node, const SymbolValues& values) {
  const std::string_view name = BaseName(node);
  const Type* first = OperandType(node, 0);
  const Type& result = FirstResult(node);
  if (IsAttention(node)) {
    const Type* key = OperandType(node, 1);
    if (first == nullptr || key == nullptr) return 0;
    const double flops = 4 * Size(*first, values) * SizeOf(*key, -2, values);
    return IsCausal(node) ? flops / 2 : flops;
  }
  if (name.starts_with("aten._scaled_dot_product_") && OperandType(node, 2) != nullptr) {  // Backward: 2.5 times.
    return 10 * Size(*OperandType(node, 1), values) * SizeOf(*OperandType(node, 2), -2, values);
  }
  if (name == "aten.addmm" || name == "aten.baddbmm") {
    const Type* left = OperandType(node, 1);
    return left == nullptr ? 0 : 2 * Size(result, values) * SizeOf(*left, -1, values);
  }
  if (name == "aten.mm" || name == "aten.bmm" || name == "aten.matmul" || name == "aten.linear") {
    return first == nullptr ? 0 : 2 * Size(result, values) * SizeOf(*first, -1, values);
  }
  return 0;
}

double Workspace(const Node& node, const SymbolValues& values) {
  const std::string_view name = BaseName(node);
  if (!name.starts_with("aten._scaled_dot_product_flash_attention_for_cpu")) return 0;
  const bool backward = name.ends_with("_backward");
  const Type* query = OperandType(node, backward ? 1 : 0);
  const Type* key = OperandType(node, backward ? 2 : 1);
  if (query == nullptr || key == nullptr) return 0;
  const double length = SizeOf(*query, -2, values);
  const double rows = std::min(length, length >= 768 ? 256.0 : length >= 192 ? 64.0 : 32.0);
  const double columns = std::min(SizeOf(*key, -2, values), 512.0);
  const double forward_elements = rows * columns + 2 * rows + rows * SizeOf(*query, -1, values);
  return 4 * (backward ? 2 * rows * columns : forward_elements);
}

double Seconds(const Node& node, const SymbolValues& values, const DeviceModel& device, std::int64_t ranks) {
  if (!node.is_call() || IsView(node) || node.op == "builtin.getitem") return 0;
  if (!node.type.is_tensor() && node.type.elements.empty()) return 0;
  const double written = Bytes(node.type, values);
  if (IsCollective(node)) {
    const double share = static_cast<double>(ranks - 1) / static_cast<double>(ranks);
    const double passes = node.op.find("all_reduce") != std::string::npos ? 2 : 1;
    return passes * share * written / device.link_bandwidth + device.launch;
  }
  double moved = written;
  for (const Node* operand : node.operands()) moved += Bytes(operand->type, values);
  const DType dtype = FirstResult(node).dtype;
  const bool low = dtype == DType::kF16 || dtype == DType::kBF16;
  const double compute = Flops(node, values) / (low ? device.flops_low : device.flops_f32);
  return std::max(compute, moved / device.memory_bandwidth) + device.launch;
}

}  // namespace autosp
