#pragma once

#include <autosp/ir/graph.h>
#include <autosp/support/status.h>

#include <cstddef>
#include <cstdint>

namespace autosp {

// Tags input number `index` of graph.inputs() as a sequence along `dim` (negative: from the end), as
// autosp.prepare_auto_sp_inputs does in Python. kBadTag when there is no such input or dim.
Status TagInput(Graph& graph, std::size_t index, std::int64_t dim);

}  // namespace autosp
