#include "unify_sizes.h"

#include <autosp/sharding/op_rules.h>

#include <fmt/format.h>

#include <algorithm>
#include <limits>

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

// What a size can be, every symbol being at least 2; infinite where nothing is known.
struct Range {
  double least = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();
};

Range RangeOf(const Dim& dim);

Range RangeOf(const Dim::Atom& atom) {
  if (atom.is_symbol()) return {2, std::numeric_limits<double>::infinity()};
  const bool larger = atom.call == Dim::Call::kMax;
  if (!larger && atom.call != Dim::Call::kMin) return {};
  const Range a = RangeOf(*atom.lhs);
  const Range b = RangeOf(*atom.rhs);
  if (larger) return {std::max(a.least, b.least), std::max(a.most, b.most)};
  return {std::min(a.least, b.least), std::min(a.most, b.most)};
}

// 64 - max(0, 64 - s0): between 2 and 64.
Range RangeOf(const Dim& dim) {
  Range sum{0, 0};
  for (const Dim::Term& term : dim.terms()) {
    Range product{1, 1};
    for (const Dim::Atom& atom : term.atoms) {
      const Range range = RangeOf(atom);
      if (term.atoms.size() == 1) {
        product = range;
      } else if (range.least > 0) {
        product = {product.least * range.least, product.most * range.most};
      } else {
        return {};  // Signs that are not known: nothing is.
      }
    }
    const auto coefficient = static_cast<double>(term.coefficient);
    if (coefficient < 0) std::swap(product.least, product.most);
    sum = {sum.least + coefficient * product.least, sum.most + coefficient * product.most};
  }
  return sum;
}

bool IsPolynomial(const Dim& dim) {
  return std::all_of(dim.terms().begin(), dim.terms().end(), [](const Dim::Term& term) {
    return std::all_of(term.atoms.begin(), term.atoms.end(), [](const Dim::Atom& atom) { return atom.is_symbol(); });
  });
}

// A min or max and the polynomial that it must be if a == b, once the equation is solved for it:
//   (min(s0, 64), s0) gives (min(s0, 64), s0)     (64 - max(0, 64 - s0), s0) gives (max(0, 64 - s0), 64 - s0)
// Nothing where one side may be 1: such an operation broadcasts it and proves nothing.
std::optional<std::pair<Dim, Dim>> EqualCall(const Dim& a, const Dim& b) {
  if (RangeOf(a).least < 2 || RangeOf(b).least < 2) return std::nullopt;
  const Dim difference = a - b;
  for (const Dim::Term& term : difference.terms()) {
    Dim call = 0;
    Dim others = term.coefficient;
    for (const Dim::Atom& atom : term.atoms) {
      if (atom.is_symbol()) {
        others = others * Dim::Symbol(atom.symbol);
      } else if (call.is_zero() && (atom.call == Dim::Call::kMin || atom.call == Dim::Call::kMax)) {
        call = Dim::MakeCall(atom.call, *atom.lhs, *atom.rhs);
      } else {
        call = others = 0;  // Two calls, or one that rounds: not solved.
      }
    }
    const std::optional<Dim> rest = call.is_zero() ? std::nullopt : ExactDiv(difference - call * others, others);
    if (rest && IsPolynomial(*rest)) return std::pair(call, *rest * Dim(-1));
  }
  return std::nullopt;
}

Dim ReplaceCall(const Dim& dim, const Dim& call, const Dim& value) {
  Dim sum = 0;
  for (const Dim::Term& term : dim.terms()) {
    Dim product = term.coefficient;
    for (const Dim::Atom& atom : term.atoms) {
      if (atom.is_symbol()) {
        product = product * Dim::Symbol(atom.symbol);
        continue;
      }
      const Dim inner =
          Dim::MakeCall(atom.call, ReplaceCall(*atom.lhs, call, value), ReplaceCall(*atom.rhs, call, value));
      product = product * (inner == call ? value : inner);
    }
    sum = sum + product;
  }
  return sum;
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
    while (const auto equality = FindEquality()) {
      Replace(*equality);
      changed = true;
    }
    return changed;
  }

 private:
  struct Equality {
    Dim stays;
    Dim goes;  // A symbol, or one call.
  };

  void Note(const Type& type) {
    const auto note = [&](const Dim& dim) {
      for (const std::string& symbol : dim.Symbols()) {
        if (std::find(order_.begin(), order_.end(), symbol) == order_.end()) order_.push_back(symbol);
      }
    };
    note(type.number);
    for (const Dim& dim : type.shape) note(dim);
  }

  // What the first operation proves that runs one loop over two different sizes.
  std::optional<Equality> FindEquality() const {
    for (const auto& node : graph_.nodes()) {
      const OpRule* rule = node->is_call() ? context_.rules->Find(node->op) : nullptr;
      if (rule == nullptr) continue;
      const Expected<FactorMapping> mapping = MapFactors(*node, *rule);
      if (!mapping.ok()) continue;
      for (const auto& [a, b] : mapping->unequal_sizes) {
        if (const auto call = EqualCall(a, b)) return Equality{call->second, call->first};
        const auto pair = EqualSymbols(a, b);
        if (!pair) continue;
        const auto rank = [&](const std::string& symbol) { return std::find(order_.begin(), order_.end(), symbol); };
        const Dim first = Dim::Symbol(pair->first);
        const Dim second = Dim::Symbol(pair->second);
        return rank(pair->first) <= rank(pair->second) ? Equality{first, second} : Equality{second, first};
      }
    }
    return std::nullopt;
  }

  void Replace(const Equality& equality) {
    for (const auto& node : graph_.nodes()) ReplaceIn(node->type, equality);
    for (auto& [dim, divisor] : graph_.divisible()) dim = Replaced(dim, equality);
    const std::string goes = equality.goes.ToString();
    context_.remarks.push_back({"unify-sizes",
                                goes,
                                fmt::format("{} is {}: an operation needs them equal", goes, equality.stays.ToString()),
                                {}});
  }

  static Dim Replaced(const Dim& dim, const Equality& equality) {
    if (const auto symbol = equality.goes.symbol()) return dim.Substitute({{*symbol, equality.stays}});
    return ReplaceCall(dim, equality.goes, equality.stays);
  }

  static void ReplaceIn(Type& type, const Equality& equality) {
    for (Dim& dim : type.shape) dim = Replaced(dim, equality);
    type.number = Replaced(type.number, equality);
    for (Type& element : type.elements) ReplaceIn(element, equality);
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
