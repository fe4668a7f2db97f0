#pragma once

#include <autosp/ir/graph.h>
#include <autosp/support/status.h>

#include <ATen/core/ivalue.h>
#include <torch/csrc/jit/api/module.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace autosp {

// TorchScript <-> IR. The importer runs the program on tensors without data (the meta device) at several sequence
// lengths at once; what is equal at all of them is a constant, every other size must be one formula in the length
// (a*s0 + b, or a division of that) that fits all of them. Whatever cannot be represented is refused with the user's
// source line.

struct ScriptImportOptions {
  // One value per argument of the method, without self: tensors of which only sizes, dtype and device count; numbers,
  // strings and None are constants of the graph.
  std::vector<c10::IValue> examples = {};
  // The dim that holds the sequence, by name of the argument. All such dims have the size s0.
  std::map<std::string, std::int64_t> sequence_dims = {};
  std::string method = "forward";
};

// Where an input of the graph comes from.
struct ScriptInput {
  std::string name;   // of the graph's input
  int argument = -1;  // position among the arguments of the method; -1: an attribute of the module
  std::string path;   // "layers.0.attn.weight" of an attribute
  bool is_parameter = false;
  at::Tensor value;  // of an attribute; shares memory with the module
};

struct ScriptGraph {
  Graph graph;
  std::vector<ScriptInput> inputs;  // One per input of the graph, in the same order.
  std::int64_t arguments = 0;       // of the method, without self
  bool returns_tuple = false;
  // Lengths above this one were seen to behave differently (a table of positions ends, say); 0: none were.
  std::int64_t longest = 0;
};

Expected<ScriptGraph> ImportScript(const torch::jit::Module& module, const ScriptImportOptions& options);

struct ScriptExportOptions {
  std::map<std::string, std::string> groups = {};  // Mesh axis -> name of its communicator. Default: {{"sp", "sp"}}.
};

// A module with the attributes that the graph reads, under their old paths, and one method "forward", which takes the
// arguments that the imported method took. It first checks what the graph was made for: the sizes of its arguments, and
// the lengths that the ranks must divide. Takes forms captured to normalized and lowered (option collectives="fused").
Expected<torch::jit::Module> ExportScript(const ScriptGraph& script, const ScriptExportOptions& options = {});

}  // namespace autosp
