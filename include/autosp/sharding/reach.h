#pragma once

#include <autosp/ir/graph.h>

#include <set>

namespace autosp {

// The values that a cut of the sequence can reach, before layouts are chosen: they depend on a tagged input, and on
// something that is trained. Propagation may cut others (a frozen encoder) and leave some of these whole, but it never
// has to cut another.
//   %ids tag=1, %w grad:  %mask = f(%ids) is not reached (not trained), %x = embedding(%w, %ids) is, and so is
//   %y = detach(%x), which still lies as %x does
// Look up only; the order follows addresses.
std::set<const Node*> ReachedByCut(const Graph& graph);

}  // namespace autosp
