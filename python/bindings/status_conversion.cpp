#include "status_conversion.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <vector>

namespace autosp::bindings {

namespace py = pybind11;

namespace {

py::list DiagnosticCodes() {
  py::list rows;
  for (const DiagnosticCodeInfo& info : AllDiagnosticCodes()) {
    py::dict row;
    row["code"] = CodeName(info.code);
    row["number"] = static_cast<int>(info.code);
    row["name"] = info.enumerator;
    row["title"] = info.title;
    row["remedy"] = info.remedy;
    rows.append(row);
  }
  return rows;
}

py::tuple MakeDiagnostic(int code, std::string message, std::vector<std::string> notes, std::string hint,
                         std::string file, int line, std::string function, std::string subject) {
  const auto& codes = AllDiagnosticCodes();
  const bool known = std::any_of(codes.begin(), codes.end(),
                                 [&](const DiagnosticCodeInfo& info) { return static_cast<int>(info.code) == code; });
  if (!known) throw py::value_error("no diagnostic has the code " + std::to_string(code));
  Diagnostic diagnostic;
  diagnostic.code = static_cast<DiagnosticCode>(code);
  diagnostic.message = std::move(message);
  diagnostic.location = {std::move(file), line, std::move(function)};
  diagnostic.subject = std::move(subject);
  diagnostic.notes = std::move(notes);
  diagnostic.hint = std::move(hint);
  return py::make_tuple(diagnostic.ToString(), ToDict(diagnostic));
}

}  // namespace

py::dict ToDict(const Diagnostic& diagnostic) {
  py::dict row;
  row["code"] = CodeName(diagnostic.code);
  row["message"] = diagnostic.message;
  row["file"] = diagnostic.location.file;
  row["line"] = diagnostic.location.line;
  row["function"] = diagnostic.location.function;
  row["subject"] = diagnostic.subject;
  row["notes"] = diagnostic.notes;
  row["hint"] = diagnostic.hint.empty() ? std::string(InfoOf(diagnostic.code).remedy) : diagnostic.hint;
  return row;
}

void Raise(const Status& status) {
  py::list diagnostics;
  for (const Diagnostic& diagnostic : status.diagnostics()) diagnostics.append(ToDict(diagnostic));
  // Imported late: autosp.errors itself may import this module.
  const py::object type = py::module_::import("autosp.errors").attr("AutoSPError");
  const py::object error = type(status.ToString(), diagnostics);
  PyErr_SetObject(type.ptr(), error.ptr());
  throw py::error_already_set();
}

void BindDiagnostics(py::module_& module) {
  module.def("diagnostic_codes", &DiagnosticCodes, "Every diagnostic code: code, number, name, title, remedy.");
  module.def("make_diagnostic", &MakeDiagnostic, py::arg("code"), py::arg("message"),
             py::arg("notes") = std::vector<std::string>(), py::arg("hint") = "", py::arg("file") = "",
             py::arg("line") = 0, py::arg("function") = "", py::arg("subject") = "",
             "The text and the dict of one diagnostic, as AutoSPError takes them.");
}

}  // namespace autosp::bindings
