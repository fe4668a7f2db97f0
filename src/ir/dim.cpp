#include <autosp/ir/dim.h>

#include "text_cursor.h"

#include <fmt/format.h>

#include <algorithm>
#include <compare>
#include <iterator>
#include <limits>
#include <set>
#include <utility>

namespace autosp {
namespace {

using Atom = Dim::Atom;
using Term = Dim::Term;
using Call = Dim::Call;

// A larger product stays an unevaluated call: multiplying sums out, and calls into sums, doubles the text each time.
constexpr std::size_t kMaxTerms = 256;
constexpr std::int64_t kMaxWeight = 4096;

std::strong_ordering Compare(const Atom& a, const Atom& b);

std::strong_ordering Compare(const Term& a, const Term& b) {
  if (a.atoms.size() != b.atoms.size()) return b.atoms.size() <=> a.atoms.size();
  for (std::size_t i = 0; i < a.atoms.size(); ++i) {
    if (auto order = Compare(a.atoms[i], b.atoms[i]); std::is_neq(order)) return order;
  }
  return std::strong_ordering::equal;  // The coefficient does not count: terms of one key are added up.
}

std::strong_ordering Compare(const Atom& a, const Atom& b) {
  if (a.is_symbol() != b.is_symbol()) return a.is_symbol() ? std::strong_ordering::less : std::strong_ordering::greater;
  if (a.is_symbol()) return a.symbol <=> b.symbol;
  if (a.call != b.call) return a.call <=> b.call;
  if (a.lhs != b.lhs) {
    if (auto order = *a.lhs <=> *b.lhs; std::is_neq(order)) return order;
  }
  return a.rhs == b.rhs ? std::strong_ordering::equal : *a.rhs <=> *b.rhs;
}

bool Before(const Term& a, const Term& b) { return std::is_lt(Compare(a, b)); }
bool AtomBefore(const Atom& a, const Atom& b) { return std::is_lt(Compare(a, b)); }

// Division of the integers, rounding towards minus infinity; nothing when the result is not an int64.
std::optional<std::int64_t> FloorDivide(std::int64_t a, std::int64_t b) {
  if (b == 0 || (b == -1 && a == std::numeric_limits<std::int64_t>::min())) return std::nullopt;
  return a / b - ((a % b != 0 && (a < 0) != (b < 0)) ? 1 : 0);
}

std::optional<std::int64_t> Apply(Call call, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  switch (call) {
    case Call::kFloorDiv:
      return FloorDivide(a, b);
    case Call::kCeilDiv: {
      const auto floor = FloorDivide(a, b);
      if (!floor) return std::nullopt;
      return *floor + (a % b != 0 ? 1 : 0);
    }
    case Call::kMod: {
      if (b == -1) return 0;
      const auto floor = FloorDivide(a, b);
      if (!floor) return std::nullopt;
      const std::int64_t remainder = a % b;
      return remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder;
    }
    case Call::kMax:
      return std::max(a, b);
    case Call::kMin:
      return std::min(a, b);
    case Call::kAdd:
      if (__builtin_add_overflow(a, b, &result)) return std::nullopt;
      return result;
    case Call::kMul:
      if (__builtin_mul_overflow(a, b, &result)) return std::nullopt;
      return result;
  }
  return std::nullopt;
}

const char* NameOf(Call call) {
  switch (call) {
    case Call::kFloorDiv:
      return "floordiv";
    case Call::kCeilDiv:
      return "ceildiv";
    case Call::kMod:
      return "mod";
    case Call::kMax:
      return "max";
    case Call::kMin:
      return "min";
    case Call::kAdd:
      return "add";
    case Call::kMul:
      return "mul";
  }
  return "floordiv";
}

void AppendAtom(std::string& text, const Atom& atom) {
  if (atom.is_symbol()) {
    AppendWordOrQuoted(text, atom.symbol);
    return;
  }
  text += NameOf(atom.call);
  text += '(';
  atom.lhs->AppendTo(text);
  text += ", ";
  atom.rhs->AppendTo(text);
  text += ')';
}

// Prints `coefficient` (already without the sign that stands before the term) times the atoms.
void AppendProduct(std::string& text, const Term& term, std::uint64_t magnitude) {
  for (std::size_t i = 0; i < term.atoms.size(); ++i) {
    if (i > 0) text += '*';
    AppendAtom(text, term.atoms[i]);
  }
  if (term.atoms.empty() || magnitude != 1) {
    if (!term.atoms.empty()) text += '*';
    fmt::format_to(std::back_inserter(text), "{}", magnitude);
  }
}

// a / b for one term each; nothing unless both coefficient and atoms divide.
std::optional<Term> DivideTerm(const Term& a, const Term& b) {
  if (b.coefficient == -1 && a.coefficient == std::numeric_limits<std::int64_t>::min()) return std::nullopt;
  if (a.atoms.size() < b.atoms.size() || a.coefficient % b.coefficient != 0) return std::nullopt;
  Term quotient;
  quotient.coefficient = a.coefficient / b.coefficient;
  std::size_t used = 0;
  for (const Atom& atom : a.atoms) {
    if (used < b.atoms.size() && std::is_eq(Compare(atom, b.atoms[used]))) {
      ++used;
    } else {
      quotient.atoms.push_back(atom);
    }
  }
  if (used != b.atoms.size()) return std::nullopt;
  return quotient;
}

// Sorts and adds up; false when a coefficient leaves int64.
bool Normalize(std::vector<Term>& terms) {
  std::sort(terms.begin(), terms.end(), Before);
  std::size_t kept = 0;
  for (std::size_t i = 0; i < terms.size(); ++i) {
    if (kept > 0 && std::is_eq(Compare(terms[kept - 1], terms[i]))) {
      std::int64_t& sum = terms[kept - 1].coefficient;
      if (__builtin_add_overflow(sum, terms[i].coefficient, &sum)) return false;
      continue;
    }
    if (kept > 0 && terms[kept - 1].coefficient == 0) --kept;
    if (kept != i) terms[kept] = std::move(terms[i]);
    ++kept;
  }
  if (kept > 0 && terms[kept - 1].coefficient == 0) --kept;
  terms.resize(kept);
  return true;
}

void CollectSymbols(const Dim& dim, std::set<std::string>& names) {
  for (const Term& term : dim.terms()) {
    for (const Atom& atom : term.atoms) {
      if (atom.is_symbol()) {
        names.insert(atom.symbol);
      } else {
        CollectSymbols(*atom.lhs, names);
        CollectSymbols(*atom.rhs, names);
      }
    }
  }
}

}  // namespace

std::string Dim::Atom::ToString() const {
  std::string text;
  AppendAtom(text, *this);
  return text;
}

Dim::Dim(std::int64_t constant) {
  if (constant != 0) terms_.push_back({constant, {}});
}

Dim Dim::Symbol(std::string name) {
  Dim dim;
  Atom atom;
  atom.symbol = name.empty() ? "_" : std::move(name);  // An empty symbol would be taken for a call.
  dim.terms_.push_back({1, {std::move(atom)}});
  return dim;
}

Dim Dim::Opaque(Call call, const Dim& lhs, const Dim& rhs) {
  Atom atom;
  atom.call = call;
  atom.lhs = std::make_shared<const Dim>(lhs);
  atom.rhs = std::make_shared<const Dim>(rhs);
  atom.weight = 1 + lhs.Weight() + rhs.Weight();
  const bool commutes = call != Call::kFloorDiv && call != Call::kCeilDiv && call != Call::kMod;
  if (commutes && std::is_lt(*atom.rhs <=> *atom.lhs)) std::swap(atom.lhs, atom.rhs);
  Dim dim;
  dim.terms_.push_back({1, {std::move(atom)}});
  return dim;
}

std::int64_t Dim::Weight() const {
  std::int64_t weight = 0;
  for (const Term& term : terms_) {
    ++weight;
    for (const Atom& atom : term.atoms) weight += atom.weight;
  }
  return weight;
}

bool Dim::is_constant() const { return terms_.empty() || (terms_.size() == 1 && terms_[0].atoms.empty()); }

std::optional<std::int64_t> Dim::constant() const {
  if (terms_.empty()) return 0;
  if (is_constant()) return terms_[0].coefficient;
  return std::nullopt;
}

std::optional<std::string> Dim::symbol() const {
  if (terms_.size() != 1 || terms_[0].coefficient != 1 || terms_[0].atoms.size() != 1) return std::nullopt;
  const Atom& atom = terms_[0].atoms[0];
  if (!atom.is_symbol()) return std::nullopt;
  return atom.symbol;
}

std::vector<std::string> Dim::Symbols() const {
  std::set<std::string> names;
  CollectSymbols(*this, names);
  return {names.begin(), names.end()};
}

Dim Dim::operator+(const Dim& other) const {
  Dim sum;
  sum.terms_.reserve(terms_.size() + other.terms_.size());
  auto a = terms_.begin(), b = other.terms_.begin();
  while (a != terms_.end() && b != other.terms_.end()) {
    const auto order = Compare(*a, *b);
    if (std::is_lt(order)) {
      sum.terms_.push_back(*a++);
    } else if (std::is_gt(order)) {
      sum.terms_.push_back(*b++);
    } else {
      Term term = *a++;
      if (__builtin_add_overflow(term.coefficient, b->coefficient, &term.coefficient)) {
        return Opaque(Call::kAdd, *this, other);
      }
      ++b;
      if (term.coefficient != 0) sum.terms_.push_back(std::move(term));
    }
  }
  sum.terms_.insert(sum.terms_.end(), a, terms_.end());
  sum.terms_.insert(sum.terms_.end(), b, other.terms_.end());
  return sum;
}

Dim Dim::operator-(const Dim& other) const {
  if (*this == other) return Dim();
  return *this + other * Dim(-1);
}

Dim Dim::operator*(const Dim& other) const {
  if (is_zero() || other.is_zero()) return Dim();
  if (is_one()) return other;
  if (other.is_one()) return *this;
  const auto count = static_cast<std::int64_t>(terms_.size()),
             other_count = static_cast<std::int64_t>(other.terms_.size());
  if (count > 1 || other_count > 1) {
    const bool too_large =
        terms_.size() * other.terms_.size() > kMaxTerms ||
        (!is_constant() && !other.is_constant() && Weight() * other_count + other.Weight() * count > kMaxWeight);
    if (too_large) return Opaque(Call::kMul, *this, other);
  }
  Dim product;
  product.terms_.reserve(terms_.size() * other.terms_.size());
  for (const Term& a : terms_) {
    for (const Term& b : other.terms_) {
      Term term;
      if (__builtin_mul_overflow(a.coefficient, b.coefficient, &term.coefficient)) {
        return Opaque(Call::kMul, *this, other);
      }
      term.atoms.reserve(a.atoms.size() + b.atoms.size());
      std::merge(a.atoms.begin(), a.atoms.end(), b.atoms.begin(), b.atoms.end(), std::back_inserter(term.atoms),
                 AtomBefore);
      product.terms_.push_back(std::move(term));
    }
  }
  if (!Normalize(product.terms_)) return Opaque(Call::kMul, *this, other);
  return product;
}

bool Dim::operator==(const Dim& other) const {
  if (terms_.size() != other.terms_.size()) return false;
  for (std::size_t i = 0; i < terms_.size(); ++i) {
    if (terms_[i].coefficient != other.terms_[i].coefficient || std::is_neq(Compare(terms_[i], other.terms_[i])))
      return false;
  }
  return true;
}

std::strong_ordering Dim::operator<=>(const Dim& other) const {
  const std::size_t common = std::min(terms_.size(), other.terms_.size());
  for (std::size_t i = 0; i < common; ++i) {
    if (auto order = Compare(terms_[i], other.terms_[i]); std::is_neq(order)) return order;
    if (auto order = terms_[i].coefficient <=> other.terms_[i].coefficient; std::is_neq(order)) return order;
  }
  return terms_.size() <=> other.terms_.size();
}

std::optional<std::int64_t> Dim::Evaluate(const std::map<std::string, std::int64_t>& bindings) const {
  std::int64_t sum = 0;
  for (const Term& term : terms_) {
    std::int64_t product = term.coefficient;
    for (const Atom& atom : term.atoms) {
      std::optional<std::int64_t> factor;
      if (atom.is_symbol()) {
        if (auto found = bindings.find(atom.symbol); found != bindings.end()) factor = found->second;
      } else {
        const auto lhs = atom.lhs->Evaluate(bindings), rhs = atom.rhs->Evaluate(bindings);
        if (lhs && rhs) factor = Apply(atom.call, *lhs, *rhs);
      }
      if (!factor || __builtin_mul_overflow(product, *factor, &product)) return std::nullopt;
    }
    if (__builtin_add_overflow(sum, product, &sum)) return std::nullopt;
  }
  return sum;
}

Dim Dim::Substitute(const std::map<std::string, Dim>& replacements) const {
  Dim sum;
  for (const Term& term : terms_) {
    Dim product(term.coefficient);
    for (const Atom& atom : term.atoms) {
      if (!atom.is_symbol()) {
        product = product * MakeCall(atom.call, atom.lhs->Substitute(replacements), atom.rhs->Substitute(replacements));
      } else if (auto found = replacements.find(atom.symbol); found != replacements.end()) {
        product = product * found->second;
      } else {
        product = product * Symbol(atom.symbol);
      }
    }
    sum = sum + product;
  }
  return sum;
}

void Dim::AppendTo(std::string& text) const {
  if (terms_.empty()) text += '0';
  for (std::size_t i = 0; i < terms_.size(); ++i) {
    const std::int64_t coefficient = terms_[i].coefficient;
    const bool negative = coefficient < 0;
    if (i > 0) {
      text += negative ? " - " : " + ";
    } else if (negative) {
      text += '-';
    }
    const auto magnitude = static_cast<std::uint64_t>(coefficient);
    AppendProduct(text, terms_[i], negative ? std::uint64_t{0} - magnitude : magnitude);
  }
}

std::string Dim::ToString() const {
  std::string text;
  AppendTo(text);
  return text;
}

Dim Dim::MakeCall(Call call, const Dim& lhs, const Dim& rhs) {
  if (call == Call::kAdd) return lhs + rhs;
  if (call == Call::kMul) return lhs * rhs;
  const auto a = lhs.constant(), b = rhs.constant();
  if (a && b) {
    if (const auto value = Apply(call, *a, *b)) return Dim(*value);
    return Opaque(call, lhs, rhs);  // A division by zero or an overflow stays visible.
  }
  if (call == Call::kMax || call == Call::kMin) {
    if (const auto difference = (lhs - rhs).constant()) return (*difference >= 0) == (call == Call::kMax) ? lhs : rhs;
    return Opaque(call, lhs, rhs);
  }
  if (const auto quotient = lhs.DivideExactly(rhs)) return call == Call::kMod ? Dim() : *quotient;
  return Opaque(call, lhs, rhs);
}

std::optional<Dim> Dim::DivideExactly(const Dim& divisor) const {
  if (divisor.is_zero()) return std::nullopt;
  if (divisor.is_one()) return *this;
  // Long division. The order of terms is compatible with multiplication of atoms, so the leading term of the rest must
  // be a multiple of the divisor's leading term as long as the division goes up.
  Dim rest = *this, quotient;
  for (std::size_t step = 0; step < kMaxTerms && !rest.terms_.empty(); ++step) {
    auto term = DivideTerm(rest.terms_[0], divisor.terms_[0]);
    if (!term) return std::nullopt;
    Dim part;
    part.terms_.push_back(std::move(*term));
    const Dim next = rest - part * divisor;
    // An overflow turned the rest into an opaque call: the leading term did not go away.
    if (!next.terms_.empty() && std::is_gteq(Compare(rest.terms_[0], next.terms_[0]))) return std::nullopt;
    quotient.terms_.push_back(std::move(part.terms_[0]));
    rest = next;
  }
  if (!rest.terms_.empty() || quotient.Weight() > std::max(kMaxWeight, Weight())) return std::nullopt;
  return quotient;
}

Dim FloorDiv(const Dim& a, const Dim& b) { return Dim::MakeCall(Dim::Call::kFloorDiv, a, b); }
Dim CeilDiv(const Dim& a, const Dim& b) { return Dim::MakeCall(Dim::Call::kCeilDiv, a, b); }
Dim Mod(const Dim& a, const Dim& b) { return Dim::MakeCall(Dim::Call::kMod, a, b); }
Dim Max(const Dim& a, const Dim& b) { return Dim::MakeCall(Dim::Call::kMax, a, b); }
Dim Min(const Dim& a, const Dim& b) { return Dim::MakeCall(Dim::Call::kMin, a, b); }
std::optional<Dim> ExactDiv(const Dim& a, const Dim& b) { return a.DivideExactly(b); }

Dim Product(const std::vector<Dim>& dims) {
  Dim product = 1;
  for (const Dim& dim : dims) product = product * dim;
  return product;
}

}  // namespace autosp
