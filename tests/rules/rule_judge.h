#pragma once

#include <autosp/interp/compare.h>
#include <autosp/sharding/op_rules.h>
#include <autosp/sharding/strategy.h>

#include <memory>
#include <string>
#include <vector>

namespace autosp::rules {

// One call of one op with the tensors it is called on: graph @case(%self: f64[5, 3] grad) { %op = ... return %op }.
struct Sample {
  std::string text;
  SpmdInputs inputs;
};

// How one claim of a rule fared, or one cut that the rule does not claim.
struct Verdict {
  // kRefused: equal, but the verifier does not see that it is right.
  enum class Kind : std::uint8_t { kEqual, kDifferent, kFailed, kRefused };
  Kind kind = Kind::kEqual;
  std::string detail;  // What differs, or why it did not run.
};

struct JudgedClaim {
  std::string what;  // "self dim 0 (5 of 5) -> result 0 dim 0", "other dim 1 (3 of 6, minor 2) -> sum"
  int ranks = 0;
  bool single = false;  // The ranks hold one element each along what is cut.
  Verdict verdict;
};

struct MissedClaim {
  std::string operand;  // "self"
  int dim = 0;
  std::string how;  // "passes to dim 0", "sum", "not read"
};

struct Judgement {
  std::string error;         // Why nothing could be judged; empty when all is well.
  bool random = false;       // The rule says so: propagation refuses it on cut values, nothing is judged.
  bool conflicting = false;  // The rule maps two sizes to one loop: the verifier refuses any cut, nothing is judged.
  bool gradients = true;     // False: the op has no backward on this sample, or not a finite one.
  int placements = 0;        // Dims of tensor operands with more than one element.
  int whole_placements = 0;  // Of these, dims that the rule says are needed whole.
  std::vector<JudgedClaim> claims;
  std::vector<MissedClaim> missed;
};

// Judges what `rules` claim about the one op of a sample: every factor that may be cut, as a whole and as an inner and
// outer part, on each number of ranks, padded or not; every layout of an operand that is said not to be read. The
// unsharded call is the truth, the passes from insert-explicit-reshards to verify-partitioned write the sharded one.
Judgement Judge(const Sample& sample, const RuleTable& rules, const std::vector<int>& ranks, bool find_missed);

}  // namespace autosp::rules
