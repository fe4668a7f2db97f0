#include <autosp/ir/dim.h>

#include "text_parsers.h"

#include <charconv>
#include <limits>
#include <utility>

namespace autosp {
namespace {

// Longer sums and products do not occur; the limit keeps hostile text from taking quadratic time.
constexpr int kMaxOperands = 1024;

std::optional<Dim::Call> CallFromString(std::string_view word) {
  if (word == "floordiv") return Dim::Call::kFloorDiv;
  if (word == "ceildiv") return Dim::Call::kCeilDiv;
  if (word == "mod") return Dim::Call::kMod;
  if (word == "max") return Dim::Call::kMax;
  if (word == "min") return Dim::Call::kMin;
  if (word == "add") return Dim::Call::kAdd;
  if (word == "mul") return Dim::Call::kMul;
  return std::nullopt;
}

// factor = number | symbol | call "(" dim "," dim ")" | "(" dim ")"
bool ParseFactor(TextCursor& cursor, Dim* dim) {
  if (cursor.TryConsume("(")) return ParseDim(cursor, dim) && cursor.Consume(")", "after a sum");
  if (cursor.Peek() >= '0' && cursor.Peek() <= '9') {
    std::int64_t number = 0;
    if (!cursor.ReadInt("a number", &number)) return false;
    *dim = Dim(number);
    return true;
  }
  std::string word;
  const bool quoted = cursor.Peek() == '"';
  if (!cursor.ReadWord("a size (a number, a symbol or a call such as ceildiv(s0, 4))", &word)) return false;
  const auto call = CallFromString(word);
  if (quoted || !call || cursor.Peek() != '(') {
    *dim = Dim::Symbol(std::move(word));
    return true;
  }
  Dim lhs, rhs;
  if (!cursor.Consume("(", "after a call") || !ParseDim(cursor, &lhs) ||
      !cursor.Consume(",", "between the operands of a call") || !ParseDim(cursor, &rhs) ||
      !cursor.Consume(")", "after the operands of a call")) {
    return false;
  }
  *dim = Dim::MakeCall(*call, lhs, rhs);
  return true;
}

// term = "-"? factor ("*" "-"? factor)*
bool ParseTerm(TextCursor& cursor, bool negative, Dim* dim) {
  *dim = 1;
  int factors = 0;
  do {
    if (++factors > kMaxOperands) return cursor.Fail("at most 1024 factors in a product");
    if (cursor.TryConsume("-")) negative = !negative;
    // The least int64 has no positive counterpart.
    if (negative && cursor.TryConsume("9223372036854775808")) {
      *dim = *dim * Dim(std::numeric_limits<std::int64_t>::min());
      negative = false;
      continue;
    }
    Dim factor;
    if (!ParseFactor(cursor, &factor)) return false;
    *dim = *dim * factor;
  } while (cursor.TryConsume("*"));
  if (negative) *dim = *dim * Dim(-1);
  return true;
}

}  // namespace

// dim = term (("+" | "-") term)*
bool ParseDim(TextCursor& cursor, Dim* dim) {
  const TextCursor::Nesting nesting(cursor);
  if (nesting.TooDeep()) return cursor.Fail("at most 100 nested phrases");
  if (!ParseTerm(cursor, false, dim)) return false;
  for (int terms = 1;; ++terms) {
    bool negative = false;
    if (cursor.TryConsume("-")) {
      negative = true;
    } else if (!cursor.TryConsume("+")) {
      return true;
    }
    if (terms >= kMaxOperands) return cursor.Fail("at most 1024 terms in a sum");
    Dim term;
    if (!ParseTerm(cursor, negative, &term)) return false;
    *dim = *dim + term;
  }
}

Expected<Dim> Dim::Parse(std::string_view text) {
  TextCursor cursor(text, "<dim>");
  Dim dim;
  if (ParseDim(cursor, &dim) && !cursor.AtEnd()) cursor.Fail("the end of the size");
  if (cursor.failed()) return cursor.TakeError();
  return dim;
}

}  // namespace autosp
