#pragma once

#include <autosp/sharding/cut_candidates.h>

#include <set>

namespace autosp {

// Prices are bytes on the link of one step, forward and backward, per rank. What is not sent is brought to that unit:
//   a kept byte that the other ranks keep too    4      memory is what the sequence is cut for; the price of a gather
//                                                       and more, so that values are gathered where they are needed
//                                                       and not kept whole from the start
//   the same of a value that is not trained      0.05   masks, positions: made and dropped
//   a multiply-add that the others do too        0.001  an accelerator does about 2,000 per byte of its link
//   a slice of a whole value                     1024   free in bytes; this much keeps small whole values whole
//   a gather of a value that is not trained     65536   rather computed whole than sent
// They decide speed and memory, never truth. Sizes are taken at the graph's hints, equal on all ranks.

// What changing the layout of a value costs; a gathered copy is kept whole.
double ReshardPrice(const Graph& graph, const Type& type, const Layout& from, const Layout& to);
// What computing all of a call on every rank costs beside computing 1/P of it: its results, its multiply-adds.
double WholePrice(const Graph& graph, const Node& node, const CutCandidate& candidate);

// Which calls are cut, each as its candidate says; all others are computed whole on every rank. One label per call; the
// cheapest labelling is a minimum cut (source side: cut):
//   source -> call   WholePrice            no edge for a call that has no candidate: it is whole
//   call -> sink     the all_reduce of a partial sum, the exchanges of attention
//   call -> gather   ReshardPrice of its value to whole, paid once for all readers that need the whole
//   gather -> reader infinite, for readers that need the whole when they are whole; -> sink for those that always do
//   reader -> slice -> call  1024, for a cut reader of a whole value, paid once per value and layout
// Of several cheapest cuts the one with the most calls cut; the same on every rank (support/max_flow.h).
// `gather_outputs`: returned values are needed whole.
std::set<const Node*> ChooseCutCalls(const Graph& graph, const CutCandidates& candidates, bool gather_outputs);

}  // namespace autosp
