#include "reshard_to_collectives.h"

#include <autosp/ir/printer.h>
#include <autosp/ir/sym_builder.h>

namespace autosp {
namespace {

class ReshardLowering {
 public:
  explicit ReshardLowering(Graph& graph) : graph_(graph), symbols_(graph) {}

  Expected<bool> Run() {
    std::vector<Node*> calls;
    for (const auto& node : graph_.nodes()) {
      if (node->is_call("autosp.reshard") || node->is_call("autosp.mask_padding")) calls.push_back(node.get());
    }
    for (Node* node : calls) {
      if (node->op == "autosp.reshard") {
        AUTOSP_RETURN_IF_ERROR(Name(*node));
      } else if (node->attribute("dim") == nullptr) {
        AUTOSP_RETURN_IF_ERROR(Describe(*node, node->type.layout, ""));
      }
    }
    return !calls.empty();
  }

 private:
  Status Name(Node& node) {
    const Layout from = node.args[0].node()->type.layout;
    const Layout to = node.type.layout;
    if (from.is_replicated() && to.is_sharded()) return Collective(node, "autosp.shard_slice", to);
    if (from.is_sharded() && to.is_replicated()) return Collective(node, "autosp.all_gather", from);
    if (from.is_partial()) {
      node.set_attribute("reduce", ToString(from.reduce));
      if (to.is_sharded()) return Collective(node, "autosp.reduce_scatter", to);
      node.op = "autosp.all_reduce";
      node.set_attribute("group", Argument::Group("sp"));
      return Status::Ok();
    }
    if (from.is_sharded() && to.is_sharded() && from.dim != to.dim) {
      AUTOSP_RETURN_IF_ERROR(Describe(node, from, "", false));
      return Collective(node, "autosp.all_to_all", to, "to_");
    }
    if (from.is_sharded() && to.is_sharded()) {
      Type whole = node.type;
      whole.layout = Layout::Replicated();
      Node* gathered = graph_.InsertBefore(&node, node.name + "_whole", "autosp.all_gather", {node.args[0]}, whole);
      gathered->provenance = node.provenance;
      AUTOSP_RETURN_IF_ERROR(Describe(*gathered, from, ""));
      node.args[0] = gathered;
      return Collective(node, "autosp.shard_slice", to);
    }
    return Diagnostic{DiagnosticCode::kInvalidGraph,
                      "no collective takes a value from " + from.ToString() + " to " + to.ToString(),
                      node.provenance.location,
                      autosp::Describe(node),
                      {},
                      ""};
  }

  Status Collective(Node& node, const char* op, const Layout& layout, const std::string& prefix = "") {
    node.op = op;
    return Describe(node, layout, prefix);
  }

  // Writes a sharded layout into attributes.
  Status Describe(Node& node, const Layout& layout, const std::string& prefix, bool with_group = true) {
    AUTOSP_ASSIGN_OR_RETURN(Argument major, symbols_.Materialize(layout.major));
    AUTOSP_ASSIGN_OR_RETURN(Argument length, symbols_.Materialize(layout.length));
    AUTOSP_ASSIGN_OR_RETURN(Argument minor, symbols_.Materialize(layout.minor));
    node.set_attribute(prefix + "dim", layout.dim);
    node.set_attribute(prefix + "major", std::move(major));
    node.set_attribute(prefix + "length", std::move(length));
    node.set_attribute(prefix + "minor", std::move(minor));
    if (with_group) node.set_attribute("group", Argument::Group("sp"));
    return Status::Ok();
  }

  Graph& graph_;
  SymBuilder symbols_;
};

class ReshardToCollectivesPass : public Pass {
 public:
  const char* name() const override { return "reshard-to-collectives"; }
  Form form_in() const override { return Form::kResharded; }
  Form form_out() const override { return Form::kResharded; }
  const char* summary() const override {
    return "reshards become all_to_all, all_gather, reduce_scatter, all_reduce, slice";
  }
  Expected<bool> Run(Graph& graph, PassContext& /*context*/) const override { return ReshardLowering(graph).Run(); }
};

}  // namespace

std::unique_ptr<Pass> MakeReshardToCollectivesPass() { return std::make_unique<ReshardToCollectivesPass>(); }

}  // namespace autosp
