#pragma once

#include <autosp/ir/graph.h>

namespace autosp {

// A planned graph as it runs: every value marked `checkpoint` has a second node "<name>_again", which backward and
// other second nodes read in its place. In form joint; the interpreter runs it like any graph, so that a plan can be
// judged by its gradients.
//
//   %a = aten.exp(%x) checkpoint          %a = aten.exp(%x)
//   %b = aten.sin(%a)                     %a_again = aten.exp(%x)
//   %g = aten.mul.Tensor(%t, %a)          %b = aten.sin(%a)
//   return %b backward %g                 %g = aten.mul.Tensor(%t, %a_again)
Graph UnrollRecomputation(const Graph& planned);

}  // namespace autosp
