#include "text_cursor.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <utility>

namespace autosp {
namespace {

// The C library's tests depend on the locale.
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsWordStart(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

int HexDigit(char c) {
  if (IsDigit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

bool IsNameChar(char c) { return IsWordStart(c) || IsDigit(c) || c == '.'; }

bool IsPlainWord(std::string_view text) {
  return !text.empty() && IsWordStart(text[0]) && std::all_of(text.begin(), text.end(), IsNameChar);
}

void AppendQuoted(std::string& text, std::string_view value) {
  text += '"';
  for (char c : value) {
    switch (c) {
      case '"':
        text += "\\\"";
        break;
      case '\\':
        text += "\\\\";
        break;
      case '\n':
        text += "\\n";
        break;
      case '\t':
        text += "\\t";
        break;
      case '\r':
        text += "\\r";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
          fmt::format_to(std::back_inserter(text), "\\x{:02x}", static_cast<unsigned char>(c));
        } else {
          text += c;
        }
    }
  }
  text += '"';
}

void AppendWordOrQuoted(std::string& text, std::string_view value) {
  if (IsPlainWord(value)) {
    text += value;
  } else {
    AppendQuoted(text, value);
  }
}

void TextCursor::SkipBlanks() {
  while (position_ < text_.size()) {
    const char c = text_[position_];
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
      ++position_;
    } else if (c == '/' && position_ + 1 < text_.size() && text_[position_ + 1] == '/') {
      position_ = std::min(text_.find('\n', position_), text_.size());
    } else {
      return;
    }
  }
}

bool TextCursor::AtEnd() {
  SkipBlanks();
  return position_ >= text_.size();
}

char TextCursor::Peek() { return AtEnd() ? '\0' : text_[position_]; }

char TextCursor::PeekDirect() const { return position_ < text_.size() ? text_[position_] : '\0'; }

std::size_t TextCursor::position() {
  SkipBlanks();
  return position_;
}

bool TextCursor::TryConsume(std::string_view punctuation) {
  SkipBlanks();
  if (!text_.substr(position_).starts_with(punctuation)) return false;
  position_ += punctuation.size();
  return true;
}

bool TextCursor::Consume(std::string_view punctuation, std::string_view context) {
  return TryConsume(punctuation) || Fail(fmt::format("\"{}\" {}", punctuation, context));
}

std::string_view TextCursor::PeekWord() {
  SkipBlanks();
  if (position_ >= text_.size() || !IsWordStart(text_[position_])) return {};
  std::size_t end = position_ + 1;
  while (end < text_.size() && IsNameChar(text_[end])) ++end;
  return text_.substr(position_, end - position_);
}

bool TextCursor::TryConsumeWord(std::string_view word) {
  if (PeekWord() != word) return false;
  position_ += word.size();
  return true;
}

bool TextCursor::ReadWord(std::string_view expected, std::string* word) {
  if (Peek() == '"') return ReadString(expected, word);
  const std::string_view found = PeekWord();
  if (found.empty()) return Fail(expected);
  *word = found;
  position_ += found.size();
  return true;
}

bool TextCursor::ReadName(std::string_view expected, std::string* name) {
  std::size_t end = position_;
  while (end < text_.size() && IsNameChar(text_[end])) ++end;
  if (end == position_) return Fail(expected);
  *name = text_.substr(position_, end - position_);
  position_ = end;
  return true;
}

bool TextCursor::ReadString(std::string_view expected, std::string* value) {
  if (!TryConsume("\"")) return Fail(expected);
  const std::size_t start = position_ - 1;
  value->clear();
  while (position_ < text_.size()) {
    const char c = text_[position_++];
    if (c == '"') return true;
    if (c == '\n') break;
    if (c != '\\') {
      *value += c;
    } else if (!ReadEscape(value)) {
      return false;
    }
  }
  return FailAt(start, "this string has no closing quote");
}

// Reads what follows a backslash.
bool TextCursor::ReadEscape(std::string* value) {
  const char c = position_ < text_.size() ? text_[position_] : '\0';
  ++position_;
  switch (c) {
    case '"':
    case '\\':
      *value += c;
      return true;
    case 'n':
      *value += '\n';
      return true;
    case 't':
      *value += '\t';
      return true;
    case 'r':
      *value += '\r';
      return true;
    case 'x':
      if (position_ + 1 < text_.size()) {
        const int high = HexDigit(text_[position_]), low = HexDigit(text_[position_ + 1]);
        if (high >= 0 && low >= 0) {
          *value += static_cast<char>(high * 16 + low);
          position_ += 2;
          return true;
        }
      }
      break;
    default:
      break;
  }
  return FailAt(position_ - 2, R"(unknown escape; expected one of \" \\ \n \t \r \xHH)");
}

bool TextCursor::ReadInt(std::string_view expected, std::int64_t* value) {
  SkipBlanks();
  const char* first = text_.data() + position_;
  const char* last = text_.data() + text_.size();
  const auto [end, error] = std::from_chars(first, last, *value);
  if (error == std::errc::result_out_of_range) return FailAt(position_, "the number does not fit into 64 bits");
  if (error != std::errc()) return Fail(expected);
  position_ += static_cast<std::size_t>(end - first);
  return true;
}

bool TextCursor::ReadNumber(std::int64_t* integer, double* floating, bool* is_int) {
  SkipBlanks();
  std::size_t end = position_;
  const auto skip_digits = [&] {
    const std::size_t before = end;
    while (end < text_.size() && IsDigit(text_[end])) ++end;
    return end > before;
  };
  if (end < text_.size() && text_[end] == '-') ++end;
  if (!skip_digits()) return Fail("a number");
  *is_int = true;
  if (end < text_.size() && text_[end] == '.') {
    *is_int = false;
    ++end;
    skip_digits();
  }
  if (end < text_.size() && (text_[end] == 'e' || text_[end] == 'E')) {
    *is_int = false;
    ++end;
    if (end < text_.size() && (text_[end] == '-' || text_[end] == '+')) ++end;
    if (!skip_digits()) return FailAt(position_, "this number has an exponent without digits");
  }
  if (end < text_.size() && IsNameChar(text_[end])) return FailAt(position_, "this number runs into a word");
  if (*is_int) return ReadInt("a number", integer);
  const auto [stop, error] = std::from_chars(text_.data() + position_, text_.data() + end, *floating);
  if (error != std::errc() || stop != text_.data() + end) {
    return FailAt(position_, "the number does not fit into a 64-bit float");
  }
  position_ = end;
  return true;
}

std::string TextCursor::DescribeNext() {
  if (AtEnd()) return "the end of the text";
  std::size_t end = position_;
  while (end < text_.size() && end - position_ < 40 && IsNameChar(text_[end])) ++end;
  if (end == position_) ++end;
  std::string described;
  AppendQuoted(described, text_.substr(position_, end - position_));
  return described;
}

bool TextCursor::Fail(std::string_view expected) {
  const std::string found = DescribeNext();
  return FailAt(position_, fmt::format("expected {}, found {}", expected, found));
}

bool TextCursor::FailAt(std::size_t position, std::string message) {
  if (failed_) return false;
  failed_ = true;
  const std::string_view before = text_.substr(0, std::min(position, text_.size()));
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const std::size_t line_start = before.rfind('\n') + 1;  // npos + 1 == 0
  error_.message = fmt::format("{} at line {}, column {}", message, line, before.size() - line_start + 1);
  error_.location = {source_name_, static_cast<int>(line), ""};
  return false;
}

}  // namespace autosp
