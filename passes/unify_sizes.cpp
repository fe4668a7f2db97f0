#include "unify_sizes.h"

#include <autosp/sharding/op_rules.h>

#include <fmt/format.h>

#include <algorithm>

namespace autosp {
namespace {

// The two symbols that must be equal if a == b, once common factors are cancelled: (s0*s1, s2*s1) gives (s0, s2).
std::optional<std::pair<std::string, std::string>> EqualSymbols(const Dim& a, const Dim& b) {
  if (a.terms().size() != 1 || b.terms().size() != 1 || a.terms()[0].coefficient != b.terms()[0].coefficient) {
    return std::nullopt;
  }
  std::vector<std::string> left;
  std::vector<std::string> right;
  for (const Dim::Atom& atom : a.terms()[0].atoms) left.push_back(atom.ToString());
  for (const Dim::Atom& atom : b.terms()[0].atoms) right.push_back(atom.ToString());
  std::vector<std::string> only_left;
  std::vector<std::string> only_right;
  std::set_difference(left.begin(), left.end(), right.begin(), right.end(), std::back_inserter(only_left));
  std::set_difference(right.begin(), right.end(), left.begin(), left.end(), std::back_inserter(only_right));
  if (only_left.size() != 1 || only_right.size() != 1) return std::nullopt;
  const auto is_symbol = [](const Dim& dim, const std::string& text) {
    const std::vector<std::string> symbols = dim.Symbols();
    return std::find(symbols.begin(), symbols.end(), text) != symbols.end();
  };
  if (!is_symbol(a, only_left[0]) || !is_symbol(b, only_right[0])) return std::nullopt;
  return std::pair(only_left[0], only_right[0]);
}

class Unifier {
 public:
  Unifier(Graph& graph, PassContext& context) : graph_(graph), context_(context) {
    for (const Node* input : graph.inputs()) {
      Note(input->type);
    }
  }

  bool Run() {
    bool changed = false;
    while (const auto pair = FindPair()) {
      Replace(pair->first, pair->second);
      changed = true;
    }
    return changed;
  }

 private:
  void Note(const Type& type) {
    const auto note = [&](const Dim& dim) {
      for (const std::string& symbol : dim.Symbols()) {
        if (std::find(order_.begin(), order_.end(), symbol) == order_.end()) order_.push_back(symbol);
      }
    };
    note(type.number);
    for (const Dim& dim : type.shape) note(dim);
  }

  // (symbol that stays, symbol that goes) of the first operation that proves two symbols equal.
  std::optional<std::pair<std::string, std::string>> FindPair() const {
    for (const auto& node : graph_.nodes()) {
      const OpRule* rule = node->is_call() ? context_.rules->Find(node->op) : nullptr;
      if (rule == nullptr) continue;
      const Expected<FactorMapping> mapping = MapFactors(*node, *rule);
      if (!mapping.ok()) continue;
      for (const auto& [a, b] : mapping->unequal_sizes) {
        const auto pair = EqualSymbols(a, b);
        if (!pair) continue;
        const auto rank = [&](const std::string& symbol) { return std::find(order_.begin(), order_.end(), symbol); };
        return rank(pair->first) <= rank(pair->second) ? *pair : std::pair(pair->second, pair->first);
      }
    }
    return std::nullopt;
  }

  void Replace(const std::string& stays, const std::string& goes) {
    const std::map<std::string, Dim> replacement = {{goes, Dim::Symbol(stays)}};
    for (const auto& node : graph_.nodes()) ReplaceIn(node->type, replacement);
    for (auto& [dim, divisor] : graph_.divisible()) dim = dim.Substitute(replacement);
    context_.remarks.push_back(
        {"unify-sizes", goes, fmt::format("{} is {}: an operation needs them equal", goes, stays), {}});
  }

  static void ReplaceIn(Type& type, const std::map<std::string, Dim>& replacement) {
    for (Dim& dim : type.shape) dim = dim.Substitute(replacement);
    type.number = type.number.Substitute(replacement);
    for (Type& element : type.elements) ReplaceIn(element, replacement);
  }

  Graph& graph_;
  PassContext& context_;
  std::vector<std::string> order_;  // Symbols by first appearance in the inputs.
};

class UnifySizesPass : public Pass {
 public:
  const char* name() const override { return "unify-sizes"; }
  Form form_in() const override { return Form::kNormalized; }
  Form form_out() const override { return Form::kNormalized; }
  const char* summary() const override { return "one symbol for sizes that an operation proves equal"; }
  Expected<bool> Run(Graph& graph, PassContext& context) const override { return Unifier(graph, context).Run(); }
};

}  // namespace

std::unique_ptr<Pass> MakeUnifySizesPass() { return std::make_unique<UnifySizesPass>(); }

}  // namespace autosp
