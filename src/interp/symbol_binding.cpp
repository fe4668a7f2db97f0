#include "symbol_binding.h"

#include "execution_error.h"

#include <autosp/ir/printer.h>

#include <vector>

namespace autosp::interp {
namespace {

using Symbols = std::map<std::string, std::int64_t>;

Diagnostic Refusal(std::string message, const Node* input = nullptr) {
  Diagnostic diagnostic{DiagnosticCode::kExecution, std::move(message), {}, {}, {}, {}};
  if (input != nullptr) diagnostic.subject = Describe(*input);
  return diagnostic;
}

// Records the symbol of a Dim like s0 or s0*8; a second, different value is caught when the types are compared.
void Bind(const Dim& dim, std::int64_t value, Symbols& symbols) {
  if (dim.terms().size() != 1 || dim.terms().front().atoms.size() != 1) return;
  const Dim::Term& term = dim.terms().front();
  const std::string& symbol = term.atoms.front().symbol;
  if (!symbol.empty() && value % term.coefficient == 0) symbols.emplace(symbol, value / term.coefficient);
}

void BindInput(const Type& type, const c10::IValue& value, Symbols& symbols) {
  if (type.kind == Type::Kind::kInt && value.isInt()) Bind(type.number, value.toInt(), symbols);
  if (!type.is_tensor() || !value.isTensor() || value.toTensor().dim() != type.rank()) return;
  for (int i = 0; i < type.rank(); ++i)
    Bind(type.shape[static_cast<std::size_t>(i)], value.toTensor().size(i), symbols);
}

std::optional<std::string> TensorMismatch(const Type& type, const at::Tensor& tensor, const Symbols& symbols) {
  bool same = tensor.defined() && tensor.dim() == type.rank();
  for (int i = 0; same && i < type.rank(); ++i) {
    const std::optional<std::int64_t> size = type.shape[static_cast<std::size_t>(i)].Evaluate(symbols);
    same = !size || *size == tensor.size(i);
  }
  if (same) return std::nullopt;
  std::string wanted = "[";
  for (const Dim& dim : type.shape) {
    const std::optional<std::int64_t> size = dim.Evaluate(symbols);
    wanted += (wanted.size() > 1 ? ", " : "") + dim.ToString();
    if (size && !dim.is_constant()) wanted += "=" + std::to_string(*size);
  }
  return "its type has the shape " + wanted + "] but the value is " + DescribeValue(tensor);
}

}  // namespace

std::optional<std::string> Mismatch(const Type& type, const c10::IValue& value, const Symbols& symbols) {
  switch (type.kind) {
    case Type::Kind::kTensor:
      if (value.isTensor()) return TensorMismatch(type, value.toTensor(), symbols);
      return "its type is a tensor but the value is " + DescribeValue(value);
    case Type::Kind::kInt: {
      const std::optional<std::int64_t> wanted = type.number.Evaluate(symbols);
      if (!value.isInt()) return "its type is an integer but the value is " + DescribeValue(value);
      if (!wanted || *wanted == value.toInt()) return std::nullopt;
      return "its type is " + type.number.ToString() + " = " + std::to_string(*wanted) + " but the value is " +
             DescribeValue(value);
    }
    case Type::Kind::kTuple: {
      std::vector<c10::IValue> elements;
      if (value.isTuple()) elements = value.toTupleRef().elements().vec();
      if (value.isList()) elements = value.toListRef().vec();
      if (elements.size() != type.elements.size()) {
        return "its type has " + std::to_string(type.elements.size()) + " elements but the value is " +
               DescribeValue(value);
      }
      for (std::size_t i = 0; i < elements.size(); ++i) {
        if (auto text = Mismatch(type.elements[i], elements[i], symbols))
          return "element " + std::to_string(i) + ": " + *text;
      }
      return std::nullopt;
    }
    default:
      return std::nullopt;
  }
}

Expected<Symbols> BindSymbols(const Graph& graph, SpmdInputs& inputs) {
  Symbols symbols;
  Status problems;
  for (const auto& [name, value] : inputs) {
    const Node* node = graph.Find(name);
    if (node == nullptr || !node->is_input()) problems.Add(Refusal("@" + graph.name() + " has no input %" + name));
  }
  for (const Node* input : graph.inputs()) {
    const auto given = inputs.find(input->name);
    if (given != inputs.end()) BindInput(input->type, given->second, symbols);
  }
  for (const Node* input : graph.inputs()) {
    const auto given = inputs.find(input->name);
    if (given == inputs.end()) {
      const std::optional<std::int64_t> number =
          input->type.kind == Type::Kind::kInt ? input->type.number.Evaluate(symbols) : std::nullopt;
      if (number) {
        inputs[input->name] = *number;
      } else {
        problems.Add(Refusal("no value is given for the input %" + input->name, input));
      }
    } else if (auto text = Mismatch(input->type, given->second, symbols)) {
      problems.Add(Refusal("the value given for %" + input->name + " does not fit: " + *text, input));
    }
  }
  if (!problems.ok()) return problems;
  return symbols;
}

}  // namespace autosp::interp
