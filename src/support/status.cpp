#include <autosp/support/status.h>

#include <fmt/format.h>

namespace autosp {

const std::vector<DiagnosticCodeInfo>& AllDiagnosticCodes() {
  static const std::vector<DiagnosticCodeInfo> codes = {
#define AUTOSP_DIAGNOSTIC(name, number, title, remedy) {DiagnosticCode::name, #name, title, remedy},
#include <autosp/support/diagnostic_codes.def>
#undef AUTOSP_DIAGNOSTIC
  };
  return codes;
}

const DiagnosticCodeInfo& InfoOf(DiagnosticCode code) {
  for (const DiagnosticCodeInfo& info : AllDiagnosticCodes()) {
    if (info.code == code) return info;
  }
  // Only a cast of a number that is not in the table comes here.
  static const DiagnosticCodeInfo unknown = {DiagnosticCode::kInvalidGraph, "kUnknown", "an unknown code",
                                             "report this: the code is missing from the table"};
  return unknown;
}

std::string CodeName(DiagnosticCode code) { return fmt::format("ASP{:04}", static_cast<int>(code)); }

std::string Diagnostic::ToString() const {
  std::string text = fmt::format("error[{}]: {}\n", CodeName(code), message);
  if (!location.file.empty() || !subject.empty()) {
    text += "  -->";
    if (!location.file.empty()) text += ' ' + location.file;
    if (!location.file.empty() && location.known()) text += fmt::format(":{}", location.line);
    if (!location.function.empty()) text += " in " + location.function;
    if (!subject.empty()) text += fmt::format("{}({})", location.file.empty() ? " " : "  ", subject);
    text += '\n';
  }
  for (const std::string& note : notes) text += fmt::format("  note: {}\n", note);
  const std::string remedy = hint.empty() ? InfoOf(code).remedy : hint;
  text += "  hint: " + remedy;
  // The page is named once, also when the author of the hint already did.
  const std::string page = "docs/errors.md#" + CodeName(code);
  if (remedy.find(page) == std::string::npos) text += fmt::format("; see {}", page);
  return text;
}

void Status::Append(const Status& other) {
  // By index: `other` may be this very object.
  const std::size_t count = other.diagnostics_.size();
  for (std::size_t i = 0; i < count; ++i) diagnostics_.push_back(Diagnostic(other.diagnostics_[i]));
}

std::string Status::ToString() const {
  std::string text;
  for (const Diagnostic& diagnostic : diagnostics_) {
    if (!text.empty()) text += "\n\n";
    text += diagnostic.ToString();
  }
  return text;
}

}  // namespace autosp
