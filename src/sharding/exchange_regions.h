#pragma once

#include <autosp/sharding/cut_candidates.h>

namespace autosp {

// Attention written out (scores = q k^T, softmax, scores v) is no operation of its own; what gives it away is one mesh
// axis on two loops of a product: the positions of q and those of k. Gathering k and v is one repair; the other is
// Ulysses: all that lies between two such products runs on a loop that they share.
//
//   %scores = bmm(%q [b*h, s@sp, d], %kt [b*h, d, t@sp])   conflict: s and t; both have b*h
//   %probs  = softmax(%scores, -1)                         b*h passes
//   %o      = bmm(%probs, %v [b*h, t@sp, d])               conflict again
// becomes
//   %scores [b*h@sp, s, t], %probs [b*h@sp, s, t], %o [b*h@sp, s, d], exchanged where others read it
//
// A region is two or more conflicts and what passes the shared loop from one to the next. The loop is the last one of
// the result that both operands have and the ranks divide. A conflict that stands alone is
// moved if that costs less.
void MoveRegionsToHeads(const Graph& graph, std::map<const Node*, CutCandidate>& candidates);

}  // namespace autosp
