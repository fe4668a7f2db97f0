#pragma once

#include <autosp/ir/graph.h>

#include <string_view>

namespace autosp {

// Reads the text form of ir/printer.h; `//` starts a comment. Errors: kParseError with line and column of
// `source_name`, what was found and what was expected. Never throws, never aborts, whatever the bytes.
Expected<Graph> Parse(std::string_view text, std::string_view source_name = "<text>");
Expected<Type> ParseType(std::string_view text);

}  // namespace autosp
