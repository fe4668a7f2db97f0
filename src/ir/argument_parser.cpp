#include "text_parsers.h"

#include <fmt/format.h>

#include <bit>
#include <limits>
#include <memory>
#include <utility>

namespace autosp {
namespace {

// The items of a list up to and including "]".
bool ParseList(TextCursor& cursor, const Graph& graph, Argument* argument) {
  Argument::List items;
  if (!cursor.TryConsume("]")) {
    do {
      if (!ParseArgument(cursor, graph, &items.emplace_back())) return false;
    } while (cursor.TryConsume(","));
    if (!cursor.Consume("]", "or \",\" in a list")) return false;
  }
  *argument = std::move(items);
  return true;
}

bool ParseSlice(TextCursor& cursor, const Graph& graph, Argument* argument) {
  auto slice = std::make_shared<Argument::Slice>();
  if (!cursor.Consume("(", "after slice") || !ParseArgument(cursor, graph, &slice->start) ||
      !cursor.Consume(",", "after the start of a slice") || !ParseArgument(cursor, graph, &slice->stop) ||
      !cursor.Consume(",", "after the stop of a slice") || !ParseArgument(cursor, graph, &slice->step) ||
      !cursor.Consume(")", "after the step of a slice")) {
    return false;
  }
  *argument = std::move(slice);
  return true;
}

// After "nan": the payload, if it is not the usual one.
bool ParseNan(TextCursor& cursor, bool negative, Argument* argument) {
  auto bits = std::bit_cast<std::uint64_t>(std::numeric_limits<double>::quiet_NaN());
  if (cursor.TryConsume("(")) {
    std::int64_t payload = 0;
    constexpr std::int64_t kMaxPayload = (std::int64_t{1} << 52) - 1;
    if (!cursor.ReadInt("the payload of a nan", &payload)) return false;
    if (payload < 1 || payload > kMaxPayload) return cursor.Fail("a payload of 1 to 2**52 - 1 before this");
    if (!cursor.Consume(")", "after the payload of a nan")) return false;
    bits = std::uint64_t{0x7ff} << 52 | static_cast<std::uint64_t>(payload);
  }
  if (negative) bits |= std::uint64_t{1} << 63;
  *argument = std::bit_cast<double>(bits);
  return true;
}

bool ParseNumber(TextCursor& cursor, Argument* argument) {
  std::int64_t integer = 0;
  double floating = 0;
  bool is_int = true;
  if (!cursor.ReadNumber(&integer, &floating, &is_int)) return false;
  *argument = is_int ? Argument(integer) : Argument(floating);
  return true;
}

// family.name, family."odd name"
bool ParseConstant(TextCursor& cursor, std::string_view word, Argument* argument) {
  const std::size_t dot = word.find('.');
  if (dot == std::string_view::npos) {
    return cursor.Fail(
        "an argument (none, true, false, a number, a string, %value, a list, slice(...), ellipsis, inf, "
        "nan or a constant such as dtype.f32)");
  }
  Argument::Constant constant{std::string(word.substr(0, dot)), std::string(word.substr(dot + 1))};
  cursor.Advance(word.size());
  if (constant.name.empty()) {
    if (cursor.PeekDirect() != '"') return cursor.Fail("the name of the constant after \".\"");
    if (!cursor.ReadString("the name of the constant", &constant.name)) return false;
  } else if (constant.family == "device" && cursor.PeekDirect() == ':') {
    while (IsNameChar(cursor.PeekDirect()) || cursor.PeekDirect() == ':') {
      constant.name += cursor.PeekDirect();
      cursor.Advance(1);
    }
  }
  *argument = std::move(constant);
  return true;
}

bool ParseWordArgument(TextCursor& cursor, const Graph& graph, std::string_view word, Argument* argument) {
  if (cursor.TryConsumeWord("none")) {
    *argument = Argument();
  } else if (cursor.TryConsumeWord("true")) {
    *argument = true;
  } else if (cursor.TryConsumeWord("false")) {
    *argument = false;
  } else if (cursor.TryConsumeWord("inf")) {
    *argument = std::numeric_limits<double>::infinity();
  } else if (cursor.TryConsumeWord("nan")) {
    return ParseNan(cursor, false, argument);
  } else if (cursor.TryConsumeWord("ellipsis")) {
    *argument = Argument::Constant{"ellipsis", ""};
  } else if (cursor.TryConsumeWord("slice")) {
    return ParseSlice(cursor, graph, argument);
  } else {
    return ParseConstant(cursor, word, argument);
  }
  return true;
}

}  // namespace

bool ParseArgument(TextCursor& cursor, const Graph& graph, Argument* argument) {
  const TextCursor::Nesting nesting(cursor);
  if (nesting.TooDeep()) return cursor.Fail("at most 100 nested phrases");
  if (const std::string_view word = cursor.PeekWord(); !word.empty()) {
    return ParseWordArgument(cursor, graph, word, argument);
  }
  const std::size_t start = cursor.position();
  if (cursor.TryConsume("%")) {
    std::string name;
    if (!cursor.ReadName("the name of a value after \"%\"", &name)) return false;
    Node* node = graph.Find(name);
    if (!node) return cursor.FailAt(start, fmt::format("%{} is read before it is defined", name));
    *argument = node;
    return true;
  }
  if (cursor.TryConsume("[")) return ParseList(cursor, graph, argument);
  if (cursor.TryConsume("-inf")) {
    *argument = -std::numeric_limits<double>::infinity();
    return true;
  }
  if (cursor.TryConsume("-nan")) return ParseNan(cursor, true, argument);
  if (cursor.Peek() == '"') {
    std::string text;
    if (!cursor.ReadString("a string", &text)) return false;
    *argument = std::move(text);
    return true;
  }
  if (cursor.Peek() == '-' || (cursor.Peek() >= '0' && cursor.Peek() <= '9')) return ParseNumber(cursor, argument);
  return cursor.Fail("an argument");
}

}  // namespace autosp
