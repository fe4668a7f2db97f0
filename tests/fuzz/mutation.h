#pragma once

#include <functional>
#include <string>

#include "program_check.h"

namespace autosp::test {

// Every mutant of a partitioned graph, one change each, with what was changed:
//  1. a collective removed, done twice, done by another collective, moved past its neighbour, or given the operand of
//     another one of the same type (and that its own);
//  2. each attribute of a collective changed, `to_` and from swapped;
//  3. each number in an argument of any other call changed: sizes, and dims and counts as well;
//  4. each local size in a type changed.
// The graph is empty where what comes out cannot even be read (a value before its definition).
void ForEachMutant(const Graph& partitioned, const std::function<void(Graph, const std::string&)>& visit);

struct MutationCount {
  int mutants = 0, caught = 0, changed = 0, escaped = 0;  // changed: those that were run and gave something else.
  std::string escapes;                                    // One line each.
  std::string first_escape;                               // In full.
  MutationCount& operator+=(const MutationCount& other);
};

// Gives every mutant to verify-partitioned, and runs those that it lets pass against the unsharded program (with
// `run_all` also the others, to count how many change a result).
MutationCount CheckMutants(const Program& program, bool run_all);

}  // namespace autosp::test
