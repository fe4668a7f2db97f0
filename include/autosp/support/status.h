#pragma once

#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace autosp {

// The codes of diagnostic_codes.def; the value is the printed number: kNoRule == 201 prints "ASP0201".
enum class DiagnosticCode : int {
#define AUTOSP_DIAGNOSTIC(name, number, title, remedy) name = number,
#include <autosp/support/diagnostic_codes.def>
#undef AUTOSP_DIAGNOSTIC
};

// One row of the code table.
struct DiagnosticCodeInfo {
  DiagnosticCode code;
  const char* enumerator;
  const char* title;   // What went wrong, for docs/errors.md.
  const char* remedy;  // The default hint.
};

const std::vector<DiagnosticCodeInfo>& AllDiagnosticCodes();
const DiagnosticCodeInfo& InfoOf(DiagnosticCode code);
std::string CodeName(DiagnosticCode code);  // "ASP0201"

// A line of the user's program. `line` 0 means unknown.
struct SourceLocation {
  std::string file;
  int line = 0;
  std::string function;  // "Router.forward"

  bool known() const { return line > 0; }
  bool operator==(const SourceLocation&) const = default;
};

// One refusal or failure. `message` starts in lower case, has no final period and names both values that disagree.
struct Diagnostic {
  DiagnosticCode code;
  std::string message = {};
  SourceLocation location = {};
  std::string subject = {};             // "%sort_2  x f32[2, 131072@sp, 4096]", or empty.
  std::vector<std::string> notes = {};  // How it came to this, nearest cause first.
  std::string hint = {};                // Empty: the remedy of the code table is printed.

  // The form of docs/errors.md: error[ASP0207]: ... / --> file:line in function  (subject) / note: ... / hint: ...
  std::string ToString() const;
};

// Success, or at least one diagnostic. All problems of one kind travel together.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Diagnostic diagnostic) { diagnostics_.push_back(std::move(diagnostic)); }  // NOLINT: implicit on purpose
  explicit Status(std::vector<Diagnostic> diagnostics) : diagnostics_(std::move(diagnostics)) {}

  static Status Ok() { return Status(); }
  bool ok() const { return diagnostics_.empty(); }
  const std::vector<Diagnostic>& diagnostics() const { return diagnostics_; }
  void Add(Diagnostic diagnostic) { diagnostics_.push_back(std::move(diagnostic)); }
  void Append(const Status& other);
  std::string ToString() const;  // Every diagnostic, one blank line between them.

 private:
  std::vector<Diagnostic> diagnostics_;
};

// A value or the diagnostics that say why there is none.
template <typename T>
class [[nodiscard]] Expected {
 public:
  Expected(T value) : state_(std::move(value)) {}                             // NOLINT: implicit on purpose
  Expected(Status status) : state_(std::move(status)) {}                      // NOLINT: implicit on purpose
  Expected(Diagnostic diagnostic) : state_(Status(std::move(diagnostic))) {}  // NOLINT: implicit on purpose

  bool ok() const { return std::holds_alternative<T>(state_); }
  explicit operator bool() const { return ok(); }
  T& value() { return std::get<T>(state_); }
  const T& value() const { return std::get<T>(state_); }
  T& operator*() { return value(); }
  const T& operator*() const { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  const Status& status() const { return std::get<Status>(state_); }  // Only when !ok().

 private:
  std::variant<T, Status> state_;
};

#define AUTOSP_CONCAT_INNER(a, b) a##b
#define AUTOSP_CONCAT(a, b) AUTOSP_CONCAT_INNER(a, b)
// Returns the failing status of `expression` from the enclosing function.
#define AUTOSP_RETURN_IF_ERROR(expression)                                                           \
  do {                                                                                               \
    if (::autosp::Status autosp_status_ = (expression); !autosp_status_.ok()) return autosp_status_; \
  } while (false)
// AUTOSP_ASSIGN_OR_RETURN(auto x, F()): x = F() on success, else returns the status.
#define AUTOSP_ASSIGN_OR_RETURN(declaration, expression) \
  AUTOSP_ASSIGN_OR_RETURN_INNER(AUTOSP_CONCAT(autosp_expected_, __LINE__), declaration, expression)
#define AUTOSP_ASSIGN_OR_RETURN_INNER(temporary, declaration, expression) \
  auto temporary = (expression);                                          \
  if (!temporary.ok()) return temporary.status();                         \
  declaration = std::move(temporary.value())

}  // namespace autosp
