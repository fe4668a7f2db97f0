#include <autosp/ir/parser.h>
#include <autosp/ir/printer.h>

#include "text_parsers.h"

#include <fmt/format.h>

#include <utility>

namespace autosp {
namespace {

bool ConsumeAxis(TextCursor& cursor) {
  const std::size_t start = cursor.position();
  std::string axis;
  if (!cursor.ReadWord("the name of a mesh axis", &axis)) return false;
  if (axis == kPartitionAxis) return true;
  return cursor.FailAt(start, fmt::format("layouts are over the axis \"{}\", not \"{}\"", kPartitionAxis, axis));
}

// "(" major "," length "@" axis "," minor ")" [ "=" size ], after the parenthesis.
bool ParseFactoredDim(TextCursor& cursor, Dim* size, Layout* layout) {
  if (!ParseDim(cursor, &layout->major) || !cursor.Consume(",", "after the major part of a sharded dim") ||
      !ParseDim(cursor, &layout->length) || !cursor.Consume("@", "after the length of a sharded dim") ||
      !ConsumeAxis(cursor) || !cursor.Consume(",", "before the minor part of a sharded dim") ||
      !ParseDim(cursor, &layout->minor) || !cursor.Consume(")", "after the minor part of a sharded dim")) {
    return false;
  }
  *size = layout->major * layout->length * layout->minor;
  return !cursor.TryConsume("=") || ParseDim(cursor, size);
}

// One entry of a shape, with the layout if this dim is cut.
bool ParseShapeDim(TextCursor& cursor, Type* type) {
  const std::size_t start = cursor.position();
  Dim size;
  Layout layout;
  layout.kind = Layout::Kind::kSharded;
  layout.dim = type->rank();
  bool sharded = false;
  if (cursor.TryConsume("(")) {
    sharded = true;
    if (!ParseFactoredDim(cursor, &size, &layout)) return false;
  } else {
    if (!ParseDim(cursor, &size)) return false;
    if (cursor.TryConsume("@")) {
      sharded = true;
      if (!ConsumeAxis(cursor)) return false;
      layout.length = size;
    }
  }
  if (sharded && type->layout.is_sharded()) return cursor.FailAt(start, "a second dim of this shape is sharded");
  if (sharded) type->layout = std::move(layout);
  type->shape.push_back(std::move(size));
  return true;
}

// "{whole}", "{sum:sp}", "{dim 7: s0@sp}", after the brace.
bool ParseLayoutSuffix(TextCursor& cursor, Type* type) {
  const std::size_t start = cursor.position();
  Layout layout;
  std::string word;
  if (!cursor.ReadWord("a layout (whole, sum:sp, max:sp or min:sp)", &word)) return false;
  if (word == "whole") {
    layout = Layout::Replicated();
  } else if (word == "dim") {
    std::int64_t dim = 0;
    Dim size;
    layout.kind = Layout::Kind::kSharded;
    if (!cursor.ReadInt("the number of a dim", &dim) || !cursor.Consume(":", "after the number of a dim")) return false;
    layout.dim = static_cast<int>(dim);
    if (cursor.TryConsume("(")) {
      if (!ParseFactoredDim(cursor, &size, &layout)) return false;
    } else if (!ParseDim(cursor, &layout.length) || !cursor.Consume("@", "after the size of a sharded dim") ||
               !ConsumeAxis(cursor)) {
      return false;
    }
  } else if (word == "sum" || word == "max" || word == "min") {
    layout = Layout::Partial(word == "sum" ? ReduceOp::kSum : word == "max" ? ReduceOp::kMax : ReduceOp::kMin);
    if (!cursor.Consume(":", "before the mesh axis of a partial value") || !ConsumeAxis(cursor)) return false;
  } else {
    return cursor.FailAt(start, fmt::format("unknown layout \"{}\"; expected whole, sum:sp, max:sp or min:sp", word));
  }
  if (!type->layout.is_unset()) return cursor.FailAt(start, "this type has two layouts");
  type->layout = std::move(layout);
  return cursor.Consume("}", "after a layout");
}

bool ParseDevice(TextCursor& cursor, std::string* device) {
  if (!cursor.Consume("=", "after device")) return false;
  if (cursor.Peek() == '"') return cursor.ReadString("a device", device);
  device->clear();
  while (IsNameChar(cursor.PeekDirect()) || cursor.PeekDirect() == ':') {
    *device += cursor.PeekDirect();
    cursor.Advance(1);
  }
  return !device->empty() || cursor.Fail("a device such as cuda:0");
}

bool ParseTensorType(TextCursor& cursor, DType dtype, Type* type) {
  *type = Type::Tensor(dtype, {});
  if (!cursor.Consume("[", "before a shape")) return false;
  if (!cursor.TryConsume("]")) {
    do {
      if (!ParseShapeDim(cursor, type)) return false;
    } while (cursor.TryConsume(","));
    if (!cursor.Consume("]", "or \",\" in a shape")) return false;
  }
  if (cursor.TryConsume("{") && !ParseLayoutSuffix(cursor, type)) return false;
  if (cursor.TryConsumeWord("grad")) type->requires_grad = true;
  return !cursor.TryConsumeWord("device") || ParseDevice(cursor, &type->device);
}

}  // namespace

bool ParseType(TextCursor& cursor, Type* type) {
  const TextCursor::Nesting nesting(cursor);
  if (nesting.TooDeep()) return cursor.Fail("at most 100 nested phrases");
  if (cursor.TryConsume("(")) {
    *type = Type::Tuple({});
    if (cursor.TryConsume(")")) return true;
    do {
      if (!ParseType(cursor, &type->elements.emplace_back())) return false;
    } while (cursor.TryConsume(","));
    return cursor.Consume(")", "or \",\" in a tuple type");
  }
  const std::string_view word = cursor.PeekWord();
  if (const auto dtype = DTypeFromString(word)) {
    cursor.Advance(word.size());
    return ParseTensorType(cursor, *dtype, type);
  }
  if (cursor.TryConsumeWord("int")) {
    *type = Type::Int(0);
    return cursor.Consume("(", "after int") && ParseDim(cursor, &type->number) &&
           cursor.Consume(")", "after the value of an int");
  }
  constexpr std::pair<std::string_view, Type::Kind> kWords[] = {{"float", Type::Kind::kFloat},
                                                                {"boolean", Type::Kind::kBool},
                                                                {"none", Type::Kind::kNone},
                                                                {"opaque", Type::Kind::kOther}};
  for (const auto& [text, kind] : kWords) {
    if (!cursor.TryConsumeWord(text)) continue;
    *type = Type::Of(kind);
    return true;
  }
  return cursor.Fail("a type (such as f32[2, s0], int(s0), float, boolean, none, opaque or a tuple)");
}

Expected<Type> ParseType(std::string_view text) {
  TextCursor cursor(text, "<type>");
  Type type;
  if (ParseType(cursor, &type) && !cursor.AtEnd()) cursor.Fail("the end of the type");
  if (cursor.failed()) return cursor.TakeError();
  return type;
}

}  // namespace autosp
