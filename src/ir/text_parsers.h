#pragma once

#include "text_cursor.h"

#include <autosp/ir/graph.h>

namespace autosp {

// The parts of the grammar of docs/ir.md. Each reads one phrase, or records an error in the cursor and returns false.
bool ParseDim(TextCursor& cursor, Dim* dim);
bool ParseType(TextCursor& cursor, Type* type);
// Values are looked up by name in `graph`.
bool ParseArgument(TextCursor& cursor, const Graph& graph, Argument* argument);

}  // namespace autosp
