#include <autosp/ir/layout.h>

#include <fmt/format.h>

#include <utility>

namespace autosp {

Layout Layout::Of(Kind kind) {
  Layout layout;
  layout.kind = kind;
  return layout;
}

Layout Layout::Partial(ReduceOp op) {
  Layout layout = Of(Kind::kPartial);
  layout.reduce = op;
  return layout;
}

Layout Layout::Sharded(int dim, Dim length, Dim major, Dim minor) {
  Layout layout = Of(Kind::kSharded);
  layout.dim = dim;
  layout.major = std::move(major);
  layout.length = std::move(length);
  layout.minor = std::move(minor);
  return layout;
}

bool Layout::operator==(const Layout& other) const {
  if (kind != other.kind) return false;
  switch (kind) {
    case Kind::kSharded:
      return dim == other.dim && major == other.major && length == other.length && minor == other.minor;
    case Kind::kPartial:
      return reduce == other.reduce;
    case Kind::kUnset:
    case Kind::kReplicated:
      return true;
  }
  return true;
}

std::string Layout::ToString() const {
  switch (kind) {
    case Kind::kReplicated:
      return "replicated";
    case Kind::kSharded:
      if (major.is_one() && minor.is_one()) return fmt::format("sharded({})", dim);
      return fmt::format("sharded({}, major={}, length={}, minor={})", dim, major.ToString(), length.ToString(),
                         minor.ToString());
    case Kind::kPartial:
      return fmt::format("partial({})", autosp::ToString(reduce));
    case Kind::kUnset:
      break;
  }
  return "unset";
}

const char* ToString(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return "sum";
    case ReduceOp::kMax:
      return "max";
    case ReduceOp::kMin:
      return "min";
  }
  return "sum";
}

}  // namespace autosp
