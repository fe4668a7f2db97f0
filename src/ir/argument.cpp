#include <autosp/ir/argument.h>

#include <bit>

namespace autosp {

bool operator==(const Argument& a, const Argument& b) {
  if (a.value.index() != b.value.index()) return false;
  if (const double* left = a.get<double>()) {
    // By bits: a nan equals itself, and 0.0 differs from -0.0.
    return std::bit_cast<std::uint64_t>(*left) == std::bit_cast<std::uint64_t>(*b.get<double>());
  }
  if (const auto* left = a.get<std::shared_ptr<Argument::Slice>>()) {
    const auto* right = b.get<std::shared_ptr<Argument::Slice>>();
    if (*left == *right) return true;
    if (!*left || !*right) return false;
    return (*left)->start == (*right)->start && (*left)->stop == (*right)->stop && (*left)->step == (*right)->step;
  }
  return a.value == b.value;
}

}  // namespace autosp
