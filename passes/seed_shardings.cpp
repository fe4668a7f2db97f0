#include "seed_shardings.h"

#include <autosp/ir/printer.h>

#include <fmt/format.h>

namespace autosp {
namespace {

class SeedShardingsPass : public Pass {
 public:
  const char* name() const override { return "seed-shardings"; }
  Form form_in() const override { return Form::kNormalized; }
  Form form_out() const override { return Form::kNormalized; }
  const char* summary() const override { return "checks the tagged inputs and states which lengths P divides"; }

  Expected<bool> Run(Graph& graph, PassContext& context) const override {
    const std::int64_t ranks = graph.axis_size();
    Status status;
    bool changed = false;
    bool tagged = false;
    for (Node* input : graph.inputs()) {
      if (input->seq_dim < 0) continue;
      tagged = true;
      if (!input->type.is_tensor() || input->seq_dim >= input->type.rank()) {
        status.Add(Problem(DiagnosticCode::kBadTag, *input,
                           fmt::format("the tag of %{} names dim {}, but it has {} dims", input->name, input->seq_dim,
                                       input->type.rank())));
        continue;
      }
      if (input->type.requires_grad) {
        status.Add(Problem(DiagnosticCode::kTaggedInputNeedsGrad, *input,
                           fmt::format("tagged input %{} requires a gradient, which would differ on the {} ranks",
                                       input->name, ranks)));
      }
      const Dim& length = input->type.shape[input->seq_dim];
      if (CeilDiv(length, ranks).is_one() && ranks > 1) {
        status.Add(
            Problem(DiagnosticCode::kSequenceTooShort, *input,
                    fmt::format("%{} has a fixed length of {}, which leaves 1 position for each of {} ranks, not 2",
                                input->name, length.ToString(), ranks)));
        continue;
      }
      if (length.is_constant() || graph.IsDivisible(length, ranks)) continue;
      const std::optional<std::int64_t> hint = length.Evaluate(graph.hints());
      if (!hint || *hint % ranks != 0) continue;
      graph.divisible().emplace_back(length, ranks);
      context.remarks.push_back({name(),
                                 "%" + input->name,
                                 fmt::format("length {} is a multiple of {}: no padding", length.ToString(), ranks),
                                 {}});
      changed = true;
    }
    if (!tagged) {
      status.Add(
          Diagnostic{DiagnosticCode::kNoTaggedInput,
                     fmt::format("none of the {} inputs is tagged as a sequence, and the graph is to run on {} ranks",
                                 graph.inputs().size(), ranks),
                     {},
                     "",
                     {},
                     ""});
    }
    if (!status.ok()) return status;
    return changed;
  }

 private:
  static Diagnostic Problem(DiagnosticCode code, const Node& input, std::string message) {
    return Diagnostic{code, std::move(message), input.provenance.location, Describe(input), {}, ""};
  }
};

}  // namespace

std::unique_ptr<Pass> MakeSeedShardingsPass() { return std::make_unique<SeedShardingsPass>(); }

}  // namespace autosp
