#include <autosp/ir/tag_input.h>

#include <autosp/ir/printer.h>

#include <string>

namespace autosp {

Status TagInput(Graph& graph, std::size_t index, std::int64_t dim) {
  const std::vector<Node*> inputs = graph.inputs();
  if (index >= inputs.size()) {
    return Diagnostic{DiagnosticCode::kBadTag, "input " + std::to_string(index) + " is tagged, but @" + graph.name() +
                                                   " has " + std::to_string(inputs.size()) + " inputs"};
  }
  Node& input = *inputs[index];
  const std::int64_t positive = dim < 0 ? dim + input.type.rank() : dim;
  if (!input.type.is_tensor() || positive < 0 || positive >= input.type.rank()) {
    return Diagnostic{DiagnosticCode::kBadTag,
                      "input " + input.name + " is tagged with sequence dim " + std::to_string(dim) + ", but it is " +
                          Print(input.type),
                      input.provenance.location, "%" + input.name};
  }
  input.seq_dim = positive;
  return Status::Ok();
}

}  // namespace autosp
