#include "verify_partitioned.h"

#include <autosp/ir/printer.h>
#include <autosp/sharding/partition_proof.h>

#include <fmt/format.h>

namespace autosp {
namespace {

// What is returned cut is what the options allow to be cut.
Status CheckOutputs(const Graph& graph, const PartitionFacts& facts, const std::string& outputs) {
  Status status;
  if (graph.output() == nullptr || outputs == "sharded") return status;
  for (const Node* value : graph.output()->operands()) {
    if (!facts.Of(*value).layout.is_sharded()) continue;
    status.Add(Diagnostic{DiagnosticCode::kLayoutConflict,
                          fmt::format("%{} is returned cut, but outputs=\"{}\"", value->name, outputs),
                          value->provenance.location,
                          Describe(*value),
                          {},
                          ""});
  }
  return status;
}

class VerifyPartitionedPass : public Pass {
 public:
  const char* name() const override { return "verify-partitioned"; }
  Form form_in() const override { return Form::kPartitioned; }
  Form form_out() const override { return Form::kPartitioned; }
  const char* summary() const override { return "derives every layout and every gradient's layout again"; }
  Expected<bool> Run(Graph& graph, PassContext& context) const override {
    PartitionFacts facts;
    AUTOSP_RETURN_IF_ERROR(DeriveLayouts(graph, context.whole.get(), *context.rules, facts));
    AUTOSP_RETURN_IF_ERROR(CheckOutputs(graph, facts, context.options.outputs));
    if (context.whole != nullptr) {
      AUTOSP_RETURN_IF_ERROR(
          CheckCorrespondence(graph, *context.whole, *context.rules, facts, context.options.outputs));
    }
    AUTOSP_RETURN_IF_ERROR(CheckCotangents(graph, facts));
    return false;
  }
};

}  // namespace

std::unique_ptr<Pass> MakeVerifyPartitionedPass() { return std::make_unique<VerifyPartitionedPass>(); }

}  // namespace autosp
