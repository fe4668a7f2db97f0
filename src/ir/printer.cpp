#include <autosp/ir/printer.h>

#include "text_cursor.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <iterator>

namespace autosp {
namespace {

// Longer signatures are printed with one input per line.
constexpr std::size_t kSignatureWidth = 116;

// What a form says about layouts.
enum class LayoutText { kAll, kMoved, kNone };

LayoutText LayoutTextOf(Form form) {
  if (form == Form::kSharded || form == Form::kResharded) return LayoutText::kAll;
  return form < Form::kSharded ? LayoutText::kMoved : LayoutText::kNone;
}

void AppendInt(std::string& text, std::int64_t value) { fmt::format_to(std::back_inserter(text), "{}", value); }

// Shortest text that reads back to the same bits, and never looks like an integer.
void AppendDouble(std::string& text, double value) {
  if (std::isnan(value)) {
    const auto bits = std::bit_cast<std::uint64_t>(value);
    constexpr std::uint64_t kQuietNan = 0x7ff8000000000000;
    if (bits >> 63 != 0) text += '-';
    text += "nan";
    if (bits << 1 != kQuietNan << 1) fmt::format_to(std::back_inserter(text), "({})", bits & (~std::uint64_t{0} >> 12));
    return;
  }
  if (std::isinf(value)) {
    text += value < 0 ? "-inf" : "inf";
    return;
  }
  const std::size_t start = text.size();
  fmt::format_to(std::back_inserter(text), "{}", value);
  if (text.find_first_of(".e", start) == std::string::npos) text += ".0";
}

void AppendConstant(std::string& text, const Argument::Constant& constant) {
  text += constant.family;
  if (constant.family == "ellipsis" && constant.name.empty()) return;
  text += '.';
  bool plain = !constant.name.empty();
  for (char c : constant.name) plain = plain && (IsNameChar(c) || (c == ':' && constant.family == "device"));
  if (plain) {
    text += constant.name;
  } else {
    AppendQuoted(text, constant.name);
  }
}

void AppendArgument(std::string& text, const Argument& argument);

void AppendArguments(std::string& text, const std::vector<Argument>& arguments) {
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (i > 0) text += ", ";
    AppendArgument(text, arguments[i]);
  }
}

struct ArgumentAppender {
  std::string& text;

  void operator()(const Argument::None&) const { text += "none"; }
  void operator()(bool value) const { text += value ? "true" : "false"; }
  void operator()(std::int64_t value) const { AppendInt(text, value); }
  void operator()(double value) const { AppendDouble(text, value); }
  void operator()(const std::string& value) const { AppendQuoted(text, value); }
  void operator()(const Node* node) const {
    text += '%';
    text += node ? node->name : "";
  }
  void operator()(const Argument::Constant& constant) const { AppendConstant(text, constant); }
  void operator()(const Argument::List& list) const {
    text += '[';
    AppendArguments(text, list);
    text += ']';
  }
  void operator()(const std::shared_ptr<Argument::Slice>& slice) const {
    const Argument::Slice empty;
    const Argument::Slice& parts = slice ? *slice : empty;
    text += "slice(";
    AppendArgument(text, parts.start);
    text += ", ";
    AppendArgument(text, parts.stop);
    text += ", ";
    AppendArgument(text, parts.step);
    text += ')';
  }
};

void AppendArgument(std::string& text, const Argument& argument) { std::visit(ArgumentAppender{text}, argument.value); }

// The dim that `layout` cuts: "s0@sp", or "(2, s0@sp, 3)" when it is a product around the cut factor. A size that
// contradicts the layout is spelled out, so that a wrong graph prints truly.
void AppendShardedDim(std::string& text, const Dim& size, const Layout& layout) {
  if (layout.major.is_one() && layout.minor.is_one() && layout.length == size) {
    size.AppendTo(text);
    text += '@';
    text += kPartitionAxis;
    return;
  }
  text += '(';
  layout.major.AppendTo(text);
  text += ", ";
  layout.length.AppendTo(text);
  text += '@';
  text += kPartitionAxis;
  text += ", ";
  layout.minor.AppendTo(text);
  text += ')';
  if (layout.major * layout.length * layout.minor != size) {
    text += "=";
    size.AppendTo(text);
  }
}

void AppendLayoutSuffix(std::string& text, const Type& type, LayoutText mode) {
  const Layout& layout = type.layout;
  if (layout.is_partial()) {
    fmt::format_to(std::back_inserter(text), "{{{}:{}}}", ToString(layout.reduce), kPartitionAxis);
  } else if (layout.is_replicated() && mode == LayoutText::kAll) {
    text += "{whole}";
  } else if (layout.is_sharded() && (layout.dim < 0 || layout.dim >= type.rank())) {
    // No such dim: a wrong graph, printed truly.
    fmt::format_to(std::back_inserter(text), "{{dim {}: ", layout.dim);
    AppendShardedDim(text, layout.major * layout.length * layout.minor, layout);
    text += '}';
  }
}

void AppendTensorType(std::string& text, const Type& type, LayoutText mode) {
  text += ToString(type.dtype);
  text += '[';
  for (int i = 0; i < type.rank(); ++i) {
    if (i > 0) text += ", ";
    const Dim& size = type.shape[static_cast<std::size_t>(i)];
    if (mode != LayoutText::kNone && type.layout.is_sharded() && type.layout.dim == i) {
      AppendShardedDim(text, size, type.layout);
    } else {
      size.AppendTo(text);
    }
  }
  text += ']';
  if (mode != LayoutText::kNone) AppendLayoutSuffix(text, type, mode);
  if (type.requires_grad) text += " grad";
  if (type.device != "cpu") {
    text += " device=";
    bool plain = !type.device.empty();
    for (char c : type.device) plain = plain && (IsNameChar(c) || c == ':');
    if (plain) {
      text += type.device;
    } else {
      AppendQuoted(text, type.device);
    }
  }
}

void AppendType(std::string& text, const Type& type, LayoutText mode) {
  switch (type.kind) {
    case Type::Kind::kTensor:
      AppendTensorType(text, type, mode);
      return;
    case Type::Kind::kInt:
      text += "int(";
      type.number.AppendTo(text);
      text += ')';
      return;
    case Type::Kind::kTuple:
      text += '(';
      for (std::size_t i = 0; i < type.elements.size(); ++i) {
        if (i > 0) text += ", ";
        AppendType(text, type.elements[i], mode);
      }
      text += ')';
      return;
    case Type::Kind::kFloat:
      text += "float";
      return;
    case Type::Kind::kBool:
      text += "boolean";
      return;
    case Type::Kind::kNone:
      text += "none";
      return;
    case Type::Kind::kOther:
      text += "opaque";
      return;
  }
}

// loc("model.py":41 in "Attention.forward", module "layers.0.attn", fx "add_3"); each part only when it is known.
void AppendLocation(std::string& text, const Provenance& provenance) {
  const SourceLocation& location = provenance.location;
  const char* separator = "";
  text += "  loc(";
  if (location != SourceLocation()) {
    AppendQuoted(text, location.file);
    fmt::format_to(std::back_inserter(text), ":{}", location.line);
    if (!location.function.empty()) {
      text += " in ";
      AppendQuoted(text, location.function);
    }
    separator = ", ";
  }
  if (!provenance.module_path.empty()) {
    text += separator;
    text += "module ";
    AppendQuoted(text, provenance.module_path);
    separator = ", ";
  }
  if (!provenance.fx_name.empty()) {
    text += separator;
    text += "fx ";
    AppendQuoted(text, provenance.fx_name);
  }
  text += ')';
}

// " %loss, %logits backward %gradient"
void AppendReturned(std::string& text, const std::vector<Argument>& values, std::int64_t forward_outputs) {
  const auto count = static_cast<std::int64_t>(values.size());
  const std::int64_t forward = forward_outputs < 0 ? count : std::min(forward_outputs, count);
  if (forward > 0) {
    text += ' ';
    AppendArguments(text, {values.begin(), values.begin() + forward});
  }
  if (forward_outputs < 0) return;
  text += " backward";
  if (forward < count) text += ' ';
  AppendArguments(text, {values.begin() + forward, values.end()});
}

void AppendNode(std::string& text, const Node& node, const PrintOptions& options, LayoutText mode,
                std::int64_t forward_outputs = -1) {
  if (node.is_output()) {
    text += "return";
    AppendReturned(text, node.args, forward_outputs);
    return;
  }
  text += '%';
  text += node.name;
  if (node.is_input()) {
    text += ": ";
    AppendType(text, node.type, mode);
    if (node.seq_dim != -1) fmt::format_to(std::back_inserter(text), " tag={}", node.seq_dim);
    if (node.tangent) text += " tangent";
  } else {
    text += " = ";
    AppendWordOrQuoted(text, node.op);
    text += '(';
    AppendArguments(text, node.args);
    text += ')';
    for (std::size_t i = 0; i < node.attributes.size(); ++i) {
      text += i == 0 ? " {" : ", ";
      AppendWordOrQuoted(text, node.attributes[i].first);
      text += '=';
      AppendArgument(text, node.attributes[i].second);
    }
    if (!node.attributes.empty()) text += '}';
    text += " : ";
    AppendType(text, node.type, mode);
  }
  if (node.choice == Node::Choice::kKeep) text += " must_keep";
  if (node.choice == Node::Choice::kRecompute) text += " must_recompute";
  if (node.choice == Node::Choice::kOnce) text += " run_once";
  if (node.written) text += " written";
  if (node.recompute) text += " checkpoint";
  if (options.locations && node.provenance != Provenance()) AppendLocation(text, node.provenance);
}

void AppendHeader(std::string& text, const Graph& graph) {
  if (!graph.mesh().empty()) {
    text += "mesh @m = {";
    for (std::size_t i = 0; i < graph.mesh().size(); ++i) {
      if (i > 0) text += ", ";
      AppendQuoted(text, graph.mesh()[i].name);
      text += '=';
      AppendInt(text, graph.mesh()[i].size);
    }
    text += "}\n";
  }
  if (!graph.hints().empty()) {
    const char* separator = "hints {";
    for (const auto& [symbol, value] : graph.hints()) {
      text += separator;
      AppendWordOrQuoted(text, symbol);
      text += '=';
      AppendInt(text, value);
      separator = ", ";
    }
    text += "}\n";
  }
  if (!graph.divisible().empty()) {
    const char* separator = "divisible {";
    for (const auto& [dim, divisor] : graph.divisible()) {
      text += separator;
      dim.AppendTo(text);
      text += " % ";
      AppendInt(text, divisor);
      separator = ", ";
    }
    text += "}\n";
  }
}

void AppendSignature(std::string& text, const Graph& graph, const PrintOptions& options, LayoutText mode) {
  std::vector<std::string> inputs;
  std::size_t width = 0;
  for (const Node* input : graph.inputs()) {
    inputs.emplace_back();
    AppendNode(inputs.back(), *input, options, mode);
    width += inputs.back().size() + 2;
  }
  text += "graph @";
  AppendWordOrQuoted(text, graph.name());
  text += '(';
  const bool wide = graph.name().size() + width > kSignatureWidth;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (i > 0) text += wide ? "," : ", ";
    if (wide) text += "\n    ";
    text += inputs[i];
  }
  text += ')';
  if (graph.form() != Form::kCaptured) {
    text += " form=";
    text += ToString(graph.form());
  }
  text += " {\n";
}

}  // namespace

std::string Print(const Graph& graph, const PrintOptions& options) {
  const LayoutText mode = LayoutTextOf(graph.form());
  std::string text;
  text.reserve(128 * graph.size());
  AppendHeader(text, graph);
  AppendSignature(text, graph, options, mode);
  for (const auto& node : graph.nodes()) {
    if (node->is_input()) continue;
    text += "  ";
    AppendNode(text, *node, options, mode, graph.forward_outputs());
    text += '\n';
  }
  text += "}\n";
  return text;
}

std::string Print(const Node& node, const PrintOptions& options) {
  std::string text;
  AppendNode(text, node, options, LayoutText::kAll);
  return text;
}

std::string Print(const Type& type) {
  std::string text;
  AppendType(text, type, LayoutText::kAll);
  return text;
}

std::string Print(const Argument& argument) {
  std::string text;
  AppendArgument(text, argument);
  return text;
}

std::string Describe(const Node& node) {
  if (node.is_output()) return "the output";
  std::string text = "%" + node.name + " ";
  AppendType(text, node.type, LayoutText::kMoved);
  return text;
}

}  // namespace autosp
