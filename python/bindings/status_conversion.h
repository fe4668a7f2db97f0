#pragma once

#include <autosp/support/status.h>

#include <pybind11/pybind11.h>

#include <utility>

namespace autosp::bindings {

// {code, message, file, line, function, subject, notes, hint}; the hint is the code's remedy when there is no own one.
pybind11::dict ToDict(const Diagnostic& diagnostic);

// Raises autosp.errors.AutoSPError(text, [dict, ...]).
[[noreturn]] void Raise(const Status& status);

inline void RaiseIfError(const Status& status) {
  if (!status.ok()) Raise(status);
}

template <typename T>
T ValueOrRaise(Expected<T> expected) {
  if (!expected.ok()) Raise(expected.status());
  return std::move(expected.value());
}

// diagnostic_codes and make_diagnostic.
void BindDiagnostics(pybind11::module_& module);

}  // namespace autosp::bindings
