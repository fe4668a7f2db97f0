#include "program_conditioning.h"

#include <algorithm>
#include <limits>
#include <map>
#include <string>

namespace autosp::test {
namespace {

constexpr double kSlack = 32;

using Gradients = std::map<std::string, at::Tensor>;  // By the name that the comparison uses.

SpmdInputs MovedByOneUnit(const SpmdInputs& inputs, int round) {
  SpmdInputs moved = inputs;
  int number = round;
  for (auto& [name, value] : moved) {
    if (!value.isTensor() || !value.toTensor().is_floating_point()) continue;
    const at::Tensor tensor = value.toTensor().detach();
    // Up and down by turns, another pattern per input and round.
    const at::Tensor index = at::arange(tensor.numel(), tensor.options()).reshape(tensor.sizes());
    const at::Tensor up = at::remainder(index + number, 2 + number % 3).eq(0).to(tensor.scalar_type());
    value = tensor * (1 + (up * 2 - 1) * std::numeric_limits<double>::epsilon());
    ++number;
  }
  return moved;
}

Gradients GradientsOf(const Program& program, const SpmdInputs& inputs, const CompareOptions& options) {
  Gradients all;
  const Expected<SpmdResult> whole = SpmdInterpreter(program.graph, 1, options.spmd).Run(inputs);
  if (!whole.ok()) return all;
  for (std::size_t i = 0; i < whole->outputs.front().size(); ++i) {
    const c10::IValue& output = whole->outputs.front()[i];
    if (!output.isTensor() || !output.toTensor().requires_grad()) continue;
    const auto gradients = SpmdGradients(*whole, static_cast<int>(i));
    if (!gradients.ok()) continue;
    for (const auto& [name, gradient] : *gradients) {
      all["gradient of output " + std::to_string(i) + " for %" + name] = gradient;
    }
  }
  return all;
}

double Change(const at::Tensor& before, const at::Tensor& after, double floor) {
  if (before.numel() == 0) return 0;
  return (before - after).abs().max().item<double>() / std::max(before.abs().max().item<double>(), floor);
}

}  // namespace

bool RoundingExplains(const Program& program, const SpmdInputs& inputs, const Comparison& comparison,
                      const CompareOptions& options) {
  const Gradients before = GradientsOf(program, inputs, options);
  std::map<std::string, double> change;
  for (int round = 0; round < 2; ++round) {
    const Gradients after = GradientsOf(program, MovedByOneUnit(inputs, round), options);
    for (const auto& [what, gradient] : before) {
      const auto found = after.find(what);
      if (found == after.end()) return false;
      change[what] = std::max(change[what], Change(gradient, found->second, options.smallest_gradient));
    }
  }
  return std::all_of(comparison.values.begin(), comparison.values.end(), [&](const ComparedValue& value) {
    if (value.error <= comparison.tolerance) return true;
    const auto found = change.find(value.what);
    return found != change.end() && value.error <= kSlack * found->second;
  });
}

}  // namespace autosp::test
