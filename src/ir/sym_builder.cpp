#include <autosp/ir/sym_builder.h>

#include <fmt/format.h>

#include <utility>

namespace autosp {
namespace {

const char* OpOf(Dim::Call call) {
  switch (call) {
    case Dim::Call::kFloorDiv:
    case Dim::Call::kCeilDiv:  // As a floor division.
      return "sym.floordiv";
    case Dim::Call::kMod:
      return "sym.mod";
    case Dim::Call::kMax:
      return "sym.max";
    case Dim::Call::kMin:
      return "sym.min";
    case Dim::Call::kAdd:
      return "sym.add";
    case Dim::Call::kMul:
      return "sym.mul";
  }
  return "sym.floordiv";
}

bool IsSizeOp(const Node& node) {
  return node.is_call() && node.type.kind == Type::Kind::kInt &&
         (node.op.starts_with("sym.") || node.op == "aten.sym_size.int");
}

Dim DimOf(const Dim::Atom& atom) {
  return atom.is_symbol() ? Dim::Symbol(atom.symbol) : Dim::MakeCall(atom.call, *atom.lhs, *atom.rhs);
}

}  // namespace

SymBuilder::SymBuilder(Graph& graph) : graph_(graph) {
  for (const auto& node : graph.nodes()) {
    if (!node->is_input() && !IsSizeOp(*node)) break;
    if (node->type.kind == Type::Kind::kInt) known_.emplace(node->type.number.ToString(), node.get());
    if (!node->is_input()) last_ = node.get();
  }
}

Node* SymBuilder::Known(const Dim& dim) const {
  const auto found = known_.find(dim.ToString());
  return found == known_.end() ? nullptr : found->second;
}

Expected<Argument> SymBuilder::Materialize(const Dim& dim) {
  if (const auto constant = dim.constant()) return Argument(*constant);
  if (Node* node = Known(dim)) return Argument(node);
  // Before anything is built, so that a refusal leaves the graph as it was.
  for (const std::string& symbol : dim.Symbols()) {
    if (Known(Dim::Symbol(symbol)) || FindCarrier(symbol).first) continue;
    return Diagnostic{DiagnosticCode::kUnsupportedSymbol,
                      fmt::format("no input of the graph carries the symbol {} of the size {}", symbol, dim.ToString()),
                      {},
                      {},
                      {},
                      {}};
  }
  Argument sum;
  Dim so_far;
  for (const Dim::Term& term : dim.terms()) {
    Dim value(term.coefficient);
    for (const Dim::Atom& atom : term.atoms) value = value * DimOf(atom);
    AUTOSP_ASSIGN_OR_RETURN(Argument summand, FromTerm(term));
    if (sum.is_none()) {
      sum = std::move(summand);
      so_far = value;
      continue;
    }
    so_far = so_far + value;
    sum = Apply("sym.add", sum, summand, so_far);
  }
  return sum;
}

Expected<Argument> SymBuilder::FromTerm(const Dim::Term& term) {
  if (term.atoms.empty()) return Argument(term.coefficient);
  Argument product;
  Dim so_far = 1;
  for (const Dim::Atom& atom : term.atoms) {
    AUTOSP_ASSIGN_OR_RETURN(Argument factor, FromAtom(atom));
    so_far = so_far * DimOf(atom);
    product = product.is_none() ? factor : Apply("sym.mul", product, factor, so_far);
  }
  if (term.coefficient == 1) return product;
  return Apply("sym.mul", product, term.coefficient, so_far * Dim(term.coefficient));
}

Expected<Argument> SymBuilder::FromAtom(const Dim::Atom& atom) {
  if (atom.is_symbol()) return FromSymbol(atom.symbol);
  const Dim whole = DimOf(atom);
  if (Node* node = Known(whole)) return Argument(node);
  const bool ceil = atom.call == Dim::Call::kCeilDiv;
  AUTOSP_ASSIGN_OR_RETURN(Argument lhs, Materialize(ceil ? *atom.lhs + *atom.rhs - Dim(1) : *atom.lhs));
  AUTOSP_ASSIGN_OR_RETURN(Argument rhs, Materialize(*atom.rhs));
  return Apply(OpOf(atom.call), lhs, rhs, whole);
}

std::pair<Node*, int> SymBuilder::FindCarrier(const std::string& symbol) const {
  const Dim dim = Dim::Symbol(symbol);
  for (Node* input : graph_.inputs()) {
    for (int i = 0; input->type.is_tensor() && i < input->type.rank(); ++i) {
      if (input->type.shape[static_cast<std::size_t>(i)] == dim) return {input, i};
    }
  }
  return {nullptr, 0};
}

Argument SymBuilder::FromSymbol(const std::string& symbol) {
  const Dim dim = Dim::Symbol(symbol);
  if (Node* node = Known(dim)) return node;
  const auto [input, position] = FindCarrier(symbol);  // Materialize made sure that there is one.
  return Remember(graph_.InsertAfter(last_, "sym_size", "aten.sym_size.int", {input, position}, Type::Int(dim)), dim);
}

Argument SymBuilder::Apply(const char* op, const Argument& lhs, const Argument& rhs, const Dim& dim) {
  if (Node* node = Known(dim)) return node;
  const std::string name = std::string("sym_") + (op + 4);  // After "sym."
  return Remember(graph_.InsertAfter(last_, name, op, {lhs, rhs}, Type::Int(dim)), dim);
}

Argument SymBuilder::Remember(Node* node, const Dim& dim) {
  node->provenance = {};  // Made of inputs: it belongs to no line of the user.
  last_ = node;
  known_.emplace(dim.ToString(), node);
  return node;
}

Expected<Argument> MaterializeDim(Graph& graph, const Dim& dim, const Node* before) {
  if (const auto constant = dim.constant()) return Argument(*constant);
  for (const auto& node : graph.nodes()) {
    if (node.get() == before) break;
    if (node->type.kind == Type::Kind::kInt && node->type.number == dim) return Argument(node.get());
  }
  return SymBuilder(graph).Materialize(dim);
}

}  // namespace autosp
