#pragma once

#include <autosp/support/status.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace autosp {

bool IsPlainWord(std::string_view text);  // [A-Za-z_][A-Za-z0-9_.]*
bool IsNameChar(char c);                  // [A-Za-z0-9_.]
void AppendQuoted(std::string& text, std::string_view value);
void AppendWordOrQuoted(std::string& text, std::string_view value);

// Reads the text form from left to right. Every Read* and Consume skips blanks and `//` comments first, and on failure
// records one error ("expected X, found Y at line L, column C") and returns false; only the first error is kept.
class TextCursor {
 public:
  TextCursor(std::string_view text, std::string_view source_name) : text_(text), source_name_(source_name) {}

  bool AtEnd();
  char Peek();              // The next character after blanks, '\0' at the end.
  char PeekDirect() const;  // The very next character.
  bool TryConsume(std::string_view punctuation);
  bool Consume(std::string_view punctuation, std::string_view context);
  std::string_view PeekWord();  // The word that stands next, or empty.
  bool TryConsumeWord(std::string_view word);
  void Advance(std::size_t count) { position_ += count; }

  bool ReadWord(std::string_view expected, std::string* word);  // A plain word or a quoted one.
  bool ReadName(std::string_view expected, std::string* name);  // Name characters, no blank before them.
  bool ReadString(std::string_view expected, std::string* value);
  bool ReadInt(std::string_view expected, std::int64_t* value);
  // An integer or a floating-point number; *is_int says which.
  bool ReadNumber(std::int64_t* integer, double* floating, bool* is_int);

  bool Fail(std::string_view expected);                    // "expected <expected>, found ..."
  bool FailAt(std::size_t position, std::string message);  // Any other message.
  std::size_t position();                                  // Of the next token.
  bool failed() const { return failed_; }
  Diagnostic TakeError() { return std::move(error_); }

  // Text nested deeper than this is refused: the parser recurses.
  static constexpr int kMaxDepth = 100;
  class Nesting {
   public:
    explicit Nesting(TextCursor& cursor) : cursor_(cursor) { ++cursor_.depth_; }
    ~Nesting() { --cursor_.depth_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;
    bool TooDeep() const { return cursor_.depth_ > kMaxDepth; }

   private:
    TextCursor& cursor_;
  };

 private:
  void SkipBlanks();
  std::string DescribeNext();
  bool ReadEscape(std::string* value);

  std::string_view text_;
  std::string source_name_;
  std::size_t position_ = 0;
  int depth_ = 0;
  bool failed_ = false;
  Diagnostic error_{DiagnosticCode::kParseError, {}, {}, {}, {}, {}};
};

}  // namespace autosp
