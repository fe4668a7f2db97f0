#pragma once

#include <autosp/ir/graph.h>

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace autosp {

// The inputs of a graph by input name. A tensor is the whole (global) one; every rank gets its own copy of it.
using SpmdInputs = std::map<std::string, c10::IValue>;

// "f64[2, 3]", "int 7", "(f32[2], none)": how messages and reports name a run-time value.
std::string DescribeValue(const c10::IValue& value);

// What one run of P simulated ranks left behind. Autograd graphs are kept: gradients can be asked afterwards.
struct SpmdResult {
  int ranks = 1;
  std::map<std::string, std::int64_t> symbols;             // The sizes of this run.
  std::vector<std::vector<c10::IValue>> outputs;           // [rank][output]
  std::vector<std::map<std::string, at::Tensor>> leaves;   // [rank]: the floating inputs, by name
  std::map<std::string, std::vector<c10::IValue>> values;  // Every named value: [name][rank]
};

struct SpmdOptions {
  // Compare the shape of every result with the node's type, which in form Partitioned is the local one.
  bool check_types = true;
  // Only inputs marked "grad" become leaves; otherwise every floating input does.
  bool only_marked_leaves = false;
  // Device constants of the graph are replaced by this one, so that a graph captured on a GPU runs anywhere.
  c10::Device device = c10::Device(c10::kCPU);
};

// Runs a graph on `ranks` simulated ranks of the mesh axis "sp", in lockstep, in this process, with libtorch's kernels.
// Collectives are built from ATen operations over the tensors of all ranks, so autograd through them is by construction
// the adjoint for the objective "sum over ranks". It knows no pass and no sharding rule: it is what these are judged
// by. The graph must outlive the interpreter. Failures are kExecution diagnostics; nothing is thrown.
class SpmdInterpreter {
 public:
  SpmdInterpreter(const Graph& graph, int ranks, SpmdOptions options = {})
      : graph_(graph), ranks_(ranks), options_(options) {}

  // Integer inputs may be left out when the tensor inputs fix their symbols. Random operations draw from the global
  // generator, one rank after the other.
  Expected<SpmdResult> Run(const SpmdInputs& inputs) const;

 private:
  const Graph& graph_;
  int ranks_;
  SpmdOptions options_;
};

// Gradients of sum_r <cotangents[r], output of rank r> with respect to the leaves of each rank: [rank][input]. An empty
// `cotangents` means ones. An input that the output does not depend on gets zeros, so the maps always have all leaves.
Expected<std::vector<std::map<std::string, at::Tensor>>> SpmdRankGradients(
    const SpmdResult& result, int output_index, const std::vector<at::Tensor>& cotangents = {});

// The same for ones, averaged over the ranks: what an engine that averages gradients over its ranks would see.
Expected<std::map<std::string, at::Tensor>> SpmdGradients(const SpmdResult& result, int output_index);

}  // namespace autosp
