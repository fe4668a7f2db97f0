#pragma once

#include <autosp/interp/compare.h>

#include "random_program.h"

namespace autosp::test {

// Whether rounding alone explains what differs: the unsharded program is run again, twice, with every floating input
// moved by one unit in the last place, and each gradient that differs changes by at least 1/32 of its difference.
// (Another order of a sum is worth a few units in the last place at each of a program's operations; scores that nearly
// cancel after large products enlarge them all alike.) Outputs are never excused: they are forward values, one product
// deep for each operation.
bool RoundingExplains(const Program& program, const SpmdInputs& inputs, const Comparison& comparison,
                      const CompareOptions& options);

}  // namespace autosp::test
