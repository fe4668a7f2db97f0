#include "eliminate_dead_nodes.h"

#include <algorithm>
#include <array>
#include <set>

namespace autosp {
namespace {

// Libraries whose ops have no effects beyond those that HasEffect looks for.
constexpr std::array<std::string_view, 8> kKnownLibraries = {
    "aten", "autosp", "autosp_fx", "autosp_rt", "prims", "sym", "_c10d_functional", "_c10d_functional_autograd"};

// Ops whose name alone does not show that they draw random numbers.
constexpr std::array<std::string_view, 12> kRandomOps = {"binomial",      "feature_dropout",  "feature_alpha_dropout",
                                                         "alpha_dropout", "dropout",          "native_dropout",
                                                         "multinomial",   "poisson",          "normal",
                                                         "rrelu",         "rrelu_with_noise", "_fused_dropout"};

// Ops that update running statistics without an underscore to show it.
constexpr std::array<std::string_view, 6> kWritingOps = {
    "batch_norm",       "native_batch_norm", "_native_batch_norm_legit",
    "cudnn_batch_norm", "miopen_batch_norm", "instance_norm"};

template <std::size_t n>
bool Contains(const std::array<std::string_view, n>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// "aten.add_.Tensor" -> {"aten", "add_", "Tensor"}; a library without a known name yields itself.
struct OpName {
  std::string_view library, base, overload;
};
OpName Split(std::string_view op) {
  const auto cut = [&] {
    const std::size_t dot = op.find('.');
    const std::string_view part = op.substr(0, dot);
    op = dot == std::string_view::npos ? std::string_view{} : op.substr(dot + 1);
    return part;
  };
  OpName name;
  name.library = cut();
  name.base = cut();
  name.overload = op;
  return name;
}

bool WritesOperand(const Node& node, const OpName& name) {
  if (name.base.starts_with("__")) return name.base.starts_with("__i");  // __and__ is a function, __iand__ is not.
  return name.base.ends_with("_") || name.overload.ends_with("out") || node.attribute("out") != nullptr ||
         Contains(kWritingOps, name.base);
}

bool DrawsRandomNumbers(const Node& node, const OpName& name) {
  if (name.base.starts_with("rand") || name.base.starts_with("bernoulli")) return true;
  if (Contains(kRandomOps, name.base)) return true;
  if (name.base.find("attention") == std::string_view::npos) return false;
  // aten.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, ...): 0 is the default.
  const Argument* dropout = node.attribute("dropout_p");
  if (dropout == nullptr && name.base == "scaled_dot_product_attention") {
    if (node.args.size() <= 4) return false;
    dropout = &node.args[4];
  }
  if (dropout == nullptr) return true;  // Other attention kernels: position of the probability not known.
  const double* probability = dropout->get<double>();
  const std::int64_t* integer = dropout->get<std::int64_t>();
  return !(probability != nullptr && *probability == 0) && !(integer != nullptr && *integer == 0);
}

bool HasEffect(const Node& node) {
  if (node.op == "builtin.getitem") return false;
  const OpName name = Split(node.op);
  if (!Contains(kKnownLibraries, name.library)) return true;
  if (name.base.find("assert") != std::string_view::npos || name.base.find("constrain") != std::string_view::npos)
    return true;
  return WritesOperand(node, name) || DrawsRandomNumbers(node, name);
}

class EliminateDeadNodesPass : public Pass {
 public:
  const char* name() const override { return "eliminate-dead-nodes"; }
  Form form_in() const override { return Form::kPartitioned; }
  Form form_out() const override { return Form::kPartitioned; }
  const char* summary() const override { return "removes calls that nobody reads and that have no effect"; }
  bool Accepts(Form) const override { return true; }

  Expected<bool> Run(Graph& graph, PassContext&) const override {
    // Readers stand after what they read, so one walk from the end finds everything that is needed.
    std::set<const Node*> needed;  // Look up only.
    for (auto it = graph.nodes().rbegin(); it != graph.nodes().rend(); ++it) {
      const Node& node = **it;
      if (node.is_call() && !HasEffect(node) && !needed.contains(&node)) continue;
      needed.insert(&node);
      for (const Node* operand : node.operands()) needed.insert(operand);
    }
    return graph.RemoveIf([&](const Node& node) { return !needed.contains(&node); }) > 0;
  }
};

}  // namespace

std::unique_ptr<Pass> MakeEliminateDeadNodesPass() { return std::make_unique<EliminateDeadNodesPass>(); }

}  // namespace autosp
