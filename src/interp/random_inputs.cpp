#include <autosp/interp/random_inputs.h>

#include "execution_error.h"
#include "torch_types.h"

#include <autosp/ir/printer.h>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace autosp {
namespace {

using Symbols = std::map<std::string, std::int64_t>;
constexpr std::int64_t kNoBound = std::numeric_limits<std::int64_t>::max();

Diagnostic Refusal(std::string message, const Node& input, std::string hint) {
  return {DiagnosticCode::kExecution, std::move(message), {}, Describe(input), {}, std::move(hint)};
}

std::int64_t Size(const Node* node, int dim, const Symbols& symbols) {
  if (node == nullptr || !node->type.is_tensor() || dim >= node->type.rank()) return kNoBound;
  return node->type.shape[static_cast<std::size_t>(dim)].Evaluate(symbols).value_or(kNoBound);
}

// The bound (exclusive) that one reader puts on the integers of `node`.
std::int64_t BoundOfReader(const Node& node, const Node& reader, const Symbols& symbols) {
  if (reader.args.size() < 2 || reader.args[1].node() != &node) return kNoBound;
  const Node* first = reader.args[0].node();
  if (reader.op == "aten.embedding") return Size(first, 0, symbols);
  if (reader.op.starts_with("aten.cross_entropy_loss") || reader.op.starts_with("aten.nll_loss")) {
    return first == nullptr ? kNoBound : Size(first, first->type.rank() > 1 ? 1 : 0, symbols);
  }
  return kNoBound;
}

// An operation that hands the integers of its first operand on, whatever their order.
bool KeepsIntegers(const Node& reader, const Node& node) {
  return reader.is_call() && !reader.args.empty() && reader.args[0].node() == &node && reader.type.is_tensor() &&
         reader.type.dtype == DType::kI64 && (reader.op.starts_with("aten.") || reader.op.starts_with("autosp."));
}

// The smallest bound among all that the values of `input` reach as indices.
std::int64_t BoundOf(const Node& input, const std::map<const Node*, std::vector<Node*>>& users,
                     const Symbols& symbols) {
  std::int64_t bound = kNoBound;
  std::vector<const Node*> reached = {&input};
  for (std::size_t i = 0; i < reached.size(); ++i) {
    const auto readers = users.find(reached[i]);
    if (readers == users.end()) continue;
    for (const Node* reader : readers->second) {
      bound = std::min(bound, BoundOfReader(*reached[i], *reader, symbols));
      const bool seen = std::find(reached.begin(), reached.end(), reader) != reached.end();
      if (!seen && KeepsIntegers(*reader, *reached[i])) reached.push_back(reader);
    }
  }
  return bound;
}

class Maker {
 public:
  Maker(const Graph& graph, const RandomInputOptions& options)
      : options_(options),
        symbols_(graph.hints()),
        users_(graph.Users()),
        generator_(at::detail::createCPUGenerator(options.seed)) {
    for (const auto& [name, size] : options.sizes) symbols_[name] = size;
  }

  Expected<c10::IValue> Make(const Node& input) {
    try {
      return MakeValue(input);
    } catch (...) {
      return Refusal("no value can be made for the input %" + input.name + ": " + interp::CurrentExceptionText(), input,
                     "");
    }
  }

 private:
  Expected<c10::IValue> MakeValue(const Node& input) {
    switch (input.type.kind) {
      case Type::Kind::kTensor:
        return MakeTensor(input);
      case Type::Kind::kInt: {
        AUTOSP_ASSIGN_OR_RETURN(const std::int64_t number, Evaluate(input.type.number, input));
        return c10::IValue(number);
      }
      case Type::Kind::kFloat:
        return c10::IValue(at::rand({}, generator_, at::TensorOptions().dtype(c10::kDouble)).item<double>() + 0.1);
      case Type::Kind::kBool:
        return c10::IValue(true);
      case Type::Kind::kNone:
        return c10::IValue();
      default:
        return Refusal("no value can be made up for the input %" + input.name, input,
                       "give its value to the interpreter");
    }
  }

  Expected<std::int64_t> Evaluate(const Dim& dim, const Node& input) const {
    if (const auto value = dim.Evaluate(symbols_)) return *value;
    std::string missing;
    for (const std::string& symbol : dim.Symbols()) {
      if (!symbols_.contains(symbol)) missing += (missing.empty() ? "" : ",") + symbol + "=...";
    }
    return Refusal("the size " + dim.ToString() + " of the input %" + input.name + " is not known", input,
                   "give it: autosp-run --sizes " + missing);
  }

  Expected<c10::IValue> MakeTensor(const Node& input) {
    std::vector<std::int64_t> shape;
    for (const Dim& dim : input.type.shape) {
      AUTOSP_ASSIGN_OR_RETURN(const std::int64_t size, Evaluate(dim, input));
      shape.push_back(size);
    }
    const c10::ScalarType dtype = interp::ToScalarType(input.type.dtype);
    if (IsFloating(input.type.dtype)) {
      const auto wide = at::TensorOptions().dtype(c10::kDouble);
      const at::Tensor values =
          shape.empty() ? at::rand(shape, generator_, wide).add(0.1) : at::randn(shape, generator_, wide).mul(0.5);
      return c10::IValue(values.to(dtype));
    }
    AUTOSP_ASSIGN_OR_RETURN(const auto range, Range(input));
    return c10::IValue(
        at::randint(range.first, range.second, shape, generator_, at::TensorOptions().dtype(c10::kLong)).to(dtype));
  }

  Expected<std::pair<std::int64_t, std::int64_t>> Range(const Node& input) const {
    std::pair<std::int64_t, std::int64_t> range = {0, 2};
    const auto given = options_.int_ranges.find(input.name);
    if (given != options_.int_ranges.end()) {
      range = given->second;
    } else if (input.type.dtype == DType::kI64) {
      const std::int64_t bound = BoundOf(input, users_, symbols_);
      if (bound != kNoBound) range.second = bound;
    }
    if (range.first < range.second) return range;
    return Refusal("the range " + std::to_string(range.first) + ":" + std::to_string(range.second) + " of the input %" +
                       input.name + " is empty",
                   input, "");
  }

  const RandomInputOptions& options_;
  Symbols symbols_;
  const std::map<const Node*, std::vector<Node*>> users_;
  at::Generator generator_;
};

void Retype(Type& type, DType dtype) {
  // Complex and 8-bit types mean something of their own.
  const auto is_plain = [](DType d) {
    return d == DType::kF16 || d == DType::kBF16 || d == DType::kF32 || d == DType::kF64;
  };
  if (type.is_tensor() && is_plain(type.dtype)) type.dtype = dtype;
  for (Type& element : type.elements) Retype(element, dtype);
}

void Retype(Argument& argument, DType dtype) {
  if (auto* list = argument.list()) {
    for (Argument& item : *list) Retype(item, dtype);
  }
  auto* constant = std::get_if<Argument::Constant>(&argument.value);
  if (constant == nullptr || constant->family != "dtype") return;
  std::optional<DType> old = DTypeFromString(constant->name);
  if (!old) old = DTypeFromTorchName(constant->name);
  if (!old) return;
  Type type = Type::Tensor(*old, {});
  Retype(type, dtype);
  if (type.dtype != *old) argument = Argument::Dtype(dtype);
}

}  // namespace

Expected<SpmdInputs> MakeRandomInputs(const Graph& graph, const RandomInputOptions& options) {
  Maker maker(graph, options);
  SpmdInputs inputs;
  Status problems;
  for (const Node* input : graph.inputs()) {
    Expected<c10::IValue> value = maker.Make(*input);
    if (value.ok()) {
      inputs[input->name] = std::move(*value);
    } else {
      problems.Append(value.status());
    }
  }
  if (!problems.ok()) return problems;
  return inputs;
}

Graph WithFloatingDtype(const Graph& graph, DType dtype) {
  Graph copy = graph.Clone();
  for (const auto& node : copy.nodes()) {
    Retype(node->type, dtype);
    for (Argument& argument : node->args) Retype(argument, dtype);
    for (auto& [name, argument] : node->attributes) Retype(argument, dtype);
  }
  return copy;
}

}  // namespace autosp
