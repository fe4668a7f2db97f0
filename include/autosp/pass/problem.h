#pragma once

#include <autosp/support/status.h>

#include <string>
#include <utility>

namespace autosp {

// A diagnostic about no value in particular. An empty hint prints the remedy of the code table.
inline Diagnostic MakeProblem(DiagnosticCode code, std::string message, std::string hint = "") {
  return Diagnostic{code, std::move(message), {}, "", {}, std::move(hint)};
}

}  // namespace autosp
