#include "convert_global_to_local.h"

#include <autosp/ir/printer.h>
#include <autosp/ir/sym_builder.h>
#include <autosp/sharding/strategy.h>

#include <limits>

namespace autosp {
namespace {

class Localizer {
 public:
  Localizer(Graph& graph, const RuleTable& rules) : graph_(graph), rules_(rules), symbols_(graph) {}

  Status Run() {
    std::vector<Node*> calls;
    for (const auto& node : graph_.nodes()) {
      if (node->is_call()) calls.push_back(node.get());
    }
    for (Node* node : calls) AUTOSP_RETURN_IF_ERROR(VisitCall(*node));
    for (const auto& node : graph_.nodes()) MakeLocal(node->type);
    return Status::Ok();
  }

 private:
  Status VisitCall(Node& node) {
    // Case 5. The parameter is named otherwise, the position is the same.
    if (node.op == "aten.view" || node.op == "aten._unsafe_view") {
      node.op = "aten.reshape";
      for (auto& [name, argument] : node.attributes) name = name == "size" ? "shape" : name;
    }
    const OpRule* rule = rules_.Find(node.op);
    if (rule == nullptr) return Status::Ok();
    if (rule->function == "slice") return OpenSlice(node);
    if (rule->function == "shift" || rule->function == "halo_convolution") return ReadNeighbours(node);
    if (rule->function == "size") return GlobalSize(node);
    if (rule->function == "unflatten") return LocalSizes(node, *rule, "sizes", UnflattenDim(node, *rule));
    if (!rule->sizes.empty()) return LocalSizes(node, *rule, rule->sizes, 0);
    return Status::Ok();
  }

  static int UnflattenDim(const Node& node, const OpRule& rule) {
    const std::int64_t dim = CallArguments(node, rule).Int("dim").value_or(0);
    return static_cast<int>(dim < 0 ? dim + node.args[0].node()->type.rank() : dim);
  }

  // Entry i of the list is the size of result dim i + offset.
  Status LocalSizes(Node& node, const OpRule& rule, const std::string& parameter, int offset) {
    if (!node.type.is_tensor() || !node.type.layout.is_sharded()) return Status::Ok();
    Argument* sizes = nullptr;
    for (std::size_t i = 0; i < rule.parameters.size() && i < node.args.size(); ++i) {
      if (rule.parameters[i] == parameter) sizes = &node.args[i];
    }
    for (auto& [name, argument] : node.attributes) {
      if (name == parameter) sizes = &argument;
    }
    const int entry = node.type.layout.dim - offset;
    if (sizes == nullptr || sizes->list() == nullptr || entry < 0 || entry >= static_cast<int>(sizes->list()->size())) {
      return Status::Ok();
    }
    Argument& size = (*sizes->list())[entry];
    if (size.get<std::int64_t>() != nullptr && *size.get<std::int64_t>() == -1) return Status::Ok();
    const int dim = node.type.layout.dim;
    AUTOSP_ASSIGN_OR_RETURN(size, symbols_.Materialize(LocalSize(graph_, node.type.layout, dim, node.type.shape[dim])));
    return Status::Ok();
  }

  // Case 6. `cut` is the last argument; a convolution runs along the last dim, a shift along the one it names.
  static Status ReadNeighbours(Node& node) {
    const auto* shifted = node.args[1].get<std::int64_t>();
    const int dim =
        node.op == "autosp_fx.shift" && shifted != nullptr ? static_cast<int>(*shifted) : node.type.rank() - 1;
    node.args.back() = node.type.layout.is_sharded() && node.type.layout.dim == dim;
    return Status::Ok();
  }

  static Status OpenSlice(Node& node) {
    if (!node.type.is_tensor() || !node.type.layout.is_sharded() || node.args.size() < 4) return Status::Ok();
    const auto* wanted = node.args[1].get<std::int64_t>();
    const int rank = node.type.rank();
    if (wanted == nullptr || (*wanted < 0 ? *wanted + rank : *wanted) != node.type.layout.dim) return Status::Ok();
    node.args[3] = std::numeric_limits<std::int64_t>::max();
    return Status::Ok();
  }

  Status GlobalSize(Node& node) {
    const Node* operand = node.args.empty() ? nullptr : node.args[0].node();
    if (operand == nullptr || !operand->type.is_tensor() || !operand->type.layout.is_sharded()) return Status::Ok();
    AUTOSP_ASSIGN_OR_RETURN(const Argument size, symbols_.Materialize(node.type.number));
    const auto put = [&](auto&& self, Argument& argument) -> void {
      if (argument.node() == &node) argument = size;
      if (Argument::List* list = argument.list()) {
        for (Argument& item : *list) self(self, item);
      }
    };
    for (const auto& reader : graph_.nodes()) {
      for (Argument& argument : reader->args) put(put, argument);
      for (auto& [name, argument] : reader->attributes) put(put, argument);
    }
    return Status::Ok();
  }

  void MakeLocal(Type& type) {
    if (type.is_tensor()) type.shape = LocalShape(graph_, type);
    type.layout = Layout();
    for (Type& element : type.elements) MakeLocal(element);
  }

  Graph& graph_;
  const RuleTable& rules_;
  SymBuilder symbols_;
};

class ConvertGlobalToLocalPass : public Pass {
 public:
  const char* name() const override { return "convert-global-to-local"; }
  Form form_in() const override { return Form::kResharded; }
  Form form_out() const override { return Form::kPartitioned; }
  const char* summary() const override { return "shapes and size arguments become those of one rank"; }
  Expected<bool> Run(Graph& graph, PassContext& context) const override {
    AUTOSP_RETURN_IF_ERROR(Localizer(graph, *context.rules).Run());
    graph.set_form(Form::kPartitioned);
    return true;
  }
};

}  // namespace

std::unique_ptr<Pass> MakeConvertGlobalToLocalPass() { return std::make_unique<ConvertGlobalToLocalPass>(); }

}  // namespace autosp
