#include "source_lines.h"

#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace autosp::frontend {
namespace {

struct Frame {
  std::string function;
  torch::jit::SourceRange range;
};

// What torch itself wrote: its Python files, and code made from text.
bool IsFramework(const std::string& file) {
  return file.find("/torch/nn/") != std::string::npos || file.find("/torch/_") != std::string::npos ||
         file.find("/torch/functional.py") != std::string::npos || file.starts_with("<");
}

// A module that was saved and loaded keeps the lines of the program beside those of its own code.
torch::jit::SourceRange Original(const torch::jit::SourceRange& range) {
  if (range.source()) {
    if (auto generator = range.findSourceRangeThatGenerated()) return *generator;
  }
  return range;
}

// "__torch__.model.Router.forward" -> "Router.forward"
std::string FunctionName(const torch::jit::Function* function) {
  if (function == nullptr) return "";
  const std::string whole = function->qualname().qualifiedName();
  const std::size_t last = whole.rfind('.');
  const std::size_t before = last == std::string::npos ? last : whole.rfind('.', last - 1);
  return before == std::string::npos ? whole : whole.substr(before + 1);
}

}  // namespace

Provenance ProvenanceOf(const torch::jit::Node& node) {
  // Frames, innermost first. An entry of the call stack says which function was called, and from where.
  std::vector<Frame> frames;
  std::string innermost;
  if (const auto stack = const_cast<torch::jit::Node&>(node).callstack()) {
    for (const auto& entry : (*stack)->vec()) {
      frames.insert(frames.begin(), {"", std::get<1>(entry)});
      if (frames.size() > 1) frames[1].function = frames[1].function;
      innermost = FunctionName(std::get<0>(entry));
    }
  }
  frames.insert(frames.begin(), {innermost, node.sourceRange()});
  Provenance result;
  for (const Frame& frame : frames) {
    const auto place = Original(frame.range).file_line_col();
    if (!place || std::get<1>(*place) == 0) continue;
    SourceLocation location{std::get<0>(*place), static_cast<int>(std::get<1>(*place)), frame.function};
    const bool framework = IsFramework(location.file);
    if (!framework || !result.location.known()) result.location = location;
    if (!framework) break;
  }
  return result;
}

}  // namespace autosp::frontend
