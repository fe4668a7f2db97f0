#pragma once

#include <autosp/support/status.h>

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace autosp {

// A symbolic integer: a polynomial with integer coefficients whose atoms are symbols ("s27") or calls
// (floordiv, ceildiv, mod, max, min) over other Dims. Values are kept in one canonical form, so equality is structural:
// two Dims that compare equal are equal for every value of the symbols. (The reverse need not hold for calls.)
//
// Division rounds as Python's does: floordiv towards minus infinity, mod with the sign of the divisor.
// Arithmetic that would leave int64, or a product of enormous text (256 terms, 4,096 symbols), stays an unevaluated
// call: add(a, b) or mul(a, b). It keeps its meaning and is never folded wrongly; if it overflows it evaluates to
// nothing.
//
// Text form, also the input of Parse: "128", "s0", "s0*2", "s0*s1 + 1", "ceildiv(s0, 4)", "floordiv(s0 + 1, 2)*3",
// "max(s0, 4)", "s0*2 - 1". Terms are ordered by degree (highest first), then by their atoms: symbols before calls,
// each by text. The coefficient comes last in a product. A symbol that is not [A-Za-z_][A-Za-z0-9_.]* is quoted.
class Dim {
 public:
  enum class Call : std::uint8_t { kFloorDiv, kCeilDiv, kMod, kMax, kMin, kAdd, kMul };

  Dim() = default;             // 0
  Dim(std::int64_t constant);  // NOLINT: implicit on purpose, sizes are mostly numbers
  static Dim Symbol(std::string name);
  static Expected<Dim> Parse(std::string_view text);

  bool is_constant() const;
  std::optional<std::int64_t> constant() const;
  bool is_one() const { return constant() == 1; }
  bool is_zero() const { return constant() == 0; }
  // The symbol's name if this Dim is one bare symbol.
  std::optional<std::string> symbol() const;
  // Names of all symbols, calls included, sorted, each once.
  std::vector<std::string> Symbols() const;

  Dim operator+(const Dim& other) const;
  Dim operator-(const Dim& other) const;
  Dim operator*(const Dim& other) const;
  bool operator==(const Dim& other) const;
  std::strong_ordering operator<=>(const Dim& other) const;  // A total order without meaning.

  // Value under `bindings`; nothing if a symbol is missing or a divisor is zero.
  std::optional<std::int64_t> Evaluate(const std::map<std::string, std::int64_t>& bindings) const;
  Dim Substitute(const std::map<std::string, Dim>& replacements) const;
  std::string ToString() const;
  void AppendTo(std::string& text) const;  // ToString() without a string in between.

  // Structure, for code that builds nodes from a Dim. The Dim equals the sum of its terms; a term is
  // coefficient * product of atoms; an atom is a symbol (symbol non-empty) or call(lhs, rhs).
  struct Atom {
    std::string symbol;
    Call call = Call::kFloorDiv;
    std::shared_ptr<const Dim> lhs, rhs;
    std::int64_t weight =
        1;  // Of a call: how many terms and symbols its text holds. Kept so that nobody walks the tree.
    std::string ToString() const;
    bool is_symbol() const { return !symbol.empty(); }
  };
  struct Term {
    std::int64_t coefficient = 0;
    std::vector<Atom> atoms;  // Sorted; a power repeats its atom.
  };
  const std::vector<Term>& terms() const { return terms_; }
  static Dim MakeCall(Call call, const Dim& lhs, const Dim& rhs);  // Folds what can be folded exactly.
  // The quotient if `divisor` divides this polynomial without remainder; nothing otherwise, and for divisor 0.
  std::optional<Dim> DivideExactly(const Dim& divisor) const;

 private:
  static Dim Opaque(Call call, const Dim& lhs, const Dim& rhs);
  std::int64_t Weight() const;
  std::vector<Term> terms_;  // Highest first, each product of atoms once, no coefficient 0.
};

// floor(a / b), folded when b divides a exactly (constants, or a polynomial division without remainder).
Dim FloorDiv(const Dim& a, const Dim& b);
Dim CeilDiv(const Dim& a, const Dim& b);
Dim Mod(const Dim& a, const Dim& b);
Dim Max(const Dim& a, const Dim& b);
Dim Min(const Dim& a, const Dim& b);
// a / b if b divides a for every value of the symbols (b not 0) as far as polynomial division shows it, e.g.
// ExactDiv(s0*s1*4, s1*2) = s0*2; ExactDiv(s0, 2) = nothing; ExactDiv(s0*2 + 2, 2) = s0 + 1. b = 0: nothing.
std::optional<Dim> ExactDiv(const Dim& a, const Dim& b);
Dim Product(const std::vector<Dim>& dims);

}  // namespace autosp
