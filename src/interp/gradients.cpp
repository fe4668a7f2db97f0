#include <autosp/interp/spmd_interpreter.h>

#include "execution_error.h"

#include <ATen/ops/ones_like.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>

#include <string>
#include <utility>

namespace autosp {
namespace {

using RankGradients = std::vector<std::map<std::string, at::Tensor>>;

Diagnostic Refusal(std::string message) { return {DiagnosticCode::kExecution, std::move(message), {}, {}, {}, {}}; }

Expected<std::vector<at::Tensor>> OutputOnEachRank(const SpmdResult& result, int index) {
  std::vector<at::Tensor> tensors;
  for (const auto& outputs : result.outputs) {
    if (index < 0 || static_cast<std::size_t>(index) >= outputs.size()) {
      return Refusal("output " + std::to_string(index) + " is asked for, the graph has " +
                     std::to_string(outputs.size()));
    }
    const c10::IValue& output = outputs[static_cast<std::size_t>(index)];
    if (!output.isTensor()) {
      return Refusal("output " + std::to_string(index) + " is " + DescribeValue(output) + ", not a tensor");
    }
    tensors.push_back(output.toTensor());
  }
  return tensors;
}

RankGradients Backward(const SpmdResult& result, const std::vector<at::Tensor>& outputs,
                       const std::vector<at::Tensor>& cotangents) {
  std::vector<at::Tensor> roots, weights, leaves;
  for (std::size_t rank = 0; rank < outputs.size(); ++rank) {
    if (!outputs[rank].requires_grad()) continue;  // Nothing to send back from this rank.
    roots.push_back(outputs[rank]);
    weights.push_back(cotangents.empty() ? at::ones_like(outputs[rank]) : cotangents[rank]);
  }
  for (const auto& of_rank : result.leaves) {
    for (const auto& [name, leaf] : of_rank) leaves.push_back(leaf);
  }
  std::vector<at::Tensor> gradients(leaves.size());
  if (!roots.empty() && !leaves.empty()) {
    // The graph is kept: other outputs may be asked for later.
    gradients = torch::autograd::grad(roots, leaves, weights, /*retain_graph=*/true, /*create_graph=*/false,
                                      /*allow_unused=*/true);
  }
  RankGradients by_rank(result.leaves.size());
  std::size_t next = 0;
  for (std::size_t rank = 0; rank < by_rank.size(); ++rank) {
    for (const auto& [name, leaf] : result.leaves[rank]) {
      const at::Tensor& gradient = gradients[next++];
      by_rank[rank][name] = gradient.defined() ? gradient : at::zeros_like(leaf);
    }
  }
  return by_rank;
}

}  // namespace

Expected<RankGradients> SpmdRankGradients(const SpmdResult& result, int output_index,
                                          const std::vector<at::Tensor>& cotangents) {
  AUTOSP_ASSIGN_OR_RETURN(const std::vector<at::Tensor> outputs, OutputOnEachRank(result, output_index));
  if (!cotangents.empty() && cotangents.size() != outputs.size()) {
    return Refusal(std::to_string(cotangents.size()) + " cotangents are given for " + std::to_string(outputs.size()) +
                   " ranks");
  }
  try {
    return Backward(result, outputs, cotangents);
  } catch (...) {
    return Refusal("the backward pass of output " + std::to_string(output_index) +
                   " failed: " + interp::CurrentExceptionText());
  }
}

Expected<std::map<std::string, at::Tensor>> SpmdGradients(const SpmdResult& result, int output_index) {
  AUTOSP_ASSIGN_OR_RETURN(const RankGradients by_rank, SpmdRankGradients(result, output_index));
  std::map<std::string, at::Tensor> mean = by_rank.front();
  for (auto& [name, gradient] : mean) {
    for (std::size_t rank = 1; rank < by_rank.size(); ++rank) gradient = gradient.add(by_rank[rank].at(name));
    gradient = gradient.div(result.ranks);
  }
  return mean;
}

}  // namespace autosp
