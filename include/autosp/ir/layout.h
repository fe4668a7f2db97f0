#pragma once

#include <autosp/ir/dim.h>

#include <string>
#include <string_view>

namespace autosp {

// The mesh axis that layouts speak of.
inline constexpr std::string_view kPartitionAxis = "sp";

enum class ReduceOp : std::uint8_t { kSum, kMax, kMin };

// How a value lies over the ranks of one mesh axis.
//
//  kReplicated  whole and equal on every rank.
//  kSharded     tensor dim `dim` is the ordered product major x length x minor, and the factor of size `length` is cut:
//               rank r holds its block r of ceildiv(length, P). The local size of the dim is
//               major * ceildiv(length, P) * minor. When P does not divide length, the tail of the last block(s) is
//               padding whose values are unspecified but as finite as the last true element.
//               [b, s, v] cut on s:  {dim 1, major 1, length s, minor 1}; after view to [b*s, v]:
//               {dim 0, major b, length s, minor 1}.
//  kPartial     every rank holds a term; the value is their reduction.
//  kUnset       not decided (forms before Sharded).
struct Layout {
  enum class Kind : std::uint8_t { kUnset, kReplicated, kSharded, kPartial };

  Kind kind = Kind::kUnset;
  int dim = -1;
  Dim major = 1;
  Dim length = 0;
  Dim minor = 1;
  ReduceOp reduce = ReduceOp::kSum;

  static Layout Replicated() { return Of(Kind::kReplicated); }
  static Layout Partial(ReduceOp op = ReduceOp::kSum);
  static Layout Sharded(int dim, Dim length, Dim major = 1, Dim minor = 1);

  bool is_unset() const { return kind == Kind::kUnset; }
  bool is_replicated() const { return kind == Kind::kReplicated; }
  bool is_sharded() const { return kind == Kind::kSharded; }
  bool is_partial() const { return kind == Kind::kPartial; }
  bool operator==(const Layout& other) const;

  // "replicated", "sharded(1)", "sharded(0, major=b, length=s0, minor=1)", "partial(sum)", "unset".
  std::string ToString() const;

 private:
  static Layout Of(Kind kind);
};

const char* ToString(ReduceOp op);  // "sum"

}  // namespace autosp
