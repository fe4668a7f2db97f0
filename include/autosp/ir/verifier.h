#pragma once

#include <autosp/ir/graph.h>

namespace autosp {

// Checks the contract of graph.form(); lists every breach (kInvalidGraph), changes nothing.
//   all forms    operands belong to the graph and stand before their readers; names unique; inputs first; exactly one
//                output node, last; types complete (an int has a number, a tuple has elements); layout dims in range
//   Captured     no layouts; no autosp.* op
//   Normalized   as Captured; no op whose name ends in "_" before the overload (in-place), no mean-reduced cross
//   entropy Sharded      every tensor has a layout; a sharded dim's size equals major*length*minor; no autosp
//   collective Resharded    as Sharded; autosp.reshard and autosp collectives allowed; each layout conflict is explicit
//   Partitioned  no autosp.reshard; shapes local; layouts cleared
//   Lowered      as Partitioned; no autosp.* op left
//   Joint, Planned  as Captured; recompute marks only in Planned
Status Verify(const Graph& graph);

// "aten.add_.Tensor": the op writes to its first operand.
bool IsInPlace(std::string_view op);

}  // namespace autosp
