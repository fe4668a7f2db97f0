#pragma once

#include <autosp/ir/graph.h>

#include <map>
#include <string>
#include <utility>

namespace autosp {

// Gives arguments for symbolic sizes: an integer for a constant, otherwise a value of type int(dim). Such values are
// built from the int inputs that carry the symbols (or aten.sym_size.int of a tensor input one of whose dims is the
// symbol) with sym.add, sym.mul, sym.floordiv, sym.mod, sym.max and sym.min; ceildiv(a, b) becomes floordiv(a + (b -
// 1), b). They all stand right after the inputs, behind the sym nodes already there, so they may be read anywhere
// later; each is built once.
//
// While a builder is in use, inputs and sym nodes of the graph must not be removed.
class SymBuilder {
 public:
  explicit SymBuilder(Graph& graph);
  // kUnsupportedSymbol when no input carries a symbol of `dim`.
  Expected<Argument> Materialize(const Dim& dim);

 private:
  Argument FromSymbol(const std::string& symbol);
  Expected<Argument> FromAtom(const Dim::Atom& atom);
  Expected<Argument> FromTerm(const Dim::Term& term);
  Argument Apply(const char* op, const Argument& lhs, const Argument& rhs, const Dim& dim);
  Argument Remember(Node* node, const Dim& dim);
  Node* Known(const Dim& dim) const;
  // The first tensor input one of whose dims is the symbol, and that dim; null when there is none.
  std::pair<Node*, int> FindCarrier(const std::string& symbol) const;

  Graph& graph_;
  Node* last_ = nullptr;                // The last node of the block after the inputs; null: there is none yet.
  std::map<std::string, Node*> known_;  // By the text of the Dim.
};

// The same for one size that is read by `before`: takes any value of type int(dim) that stands before it.
Expected<Argument> MaterializeDim(Graph& graph, const Dim& dim, const Node* before);

}  // namespace autosp
