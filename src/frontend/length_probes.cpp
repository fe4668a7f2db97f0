#include "length_probes.h"

#include <algorithm>

namespace autosp::frontend {

LengthProbes::LengthProbes(std::optional<std::int64_t> example_length) {
  if (!example_length) {
    lengths_ = {1};
    return;
  }
  has_sequence_ = true;
  const std::int64_t length = *example_length;
  // A program may ask that a power of two divides the length, and may end at the example's: shorter probes are
  // multiples of the largest power of two that leaves four of them. 1 is no length: it would broadcast.
  std::int64_t step = 1;
  while (length % (step * 2) == 0 && length / (step * 2) >= 6) step *= 2;
  lengths_ = {length};
  for (const std::int64_t down : {1, 3, 5}) {
    const std::int64_t shorter = length - down * step;
    if (shorter >= 2) lengths_.push_back(shorter);
  }
  // Too short an example: all there is lies above it.
  for (std::int64_t longer = length + 1; lengths_.size() < 4; ++longer) lengths_.push_back(longer);
  lengths_.push_back((2 * length / step + 9) * step);
}

void LengthProbes::ForgetLonger() {
  if (has_sequence_ && lengths_.size() > 4) lengths_.pop_back();
}

std::optional<std::int64_t> LengthProbes::At(const Dim& dim, std::size_t probe) const {
  return dim.Evaluate({{kLengthSymbol, lengths_[probe]}});
}

bool LengthProbes::Fits(const Dim& dim, const std::vector<std::int64_t>& values, std::size_t count) const {
  for (std::size_t probe = 0; probe < count; ++probe) {
    if (At(dim, probe) != values[probe]) return false;
  }
  return true;
}

std::optional<Dim> LengthProbes::FitFirst(const std::vector<std::int64_t>& values, std::size_t count) const {
  if (Fits(Dim(values[0]), values, count)) return Dim(values[0]);
  if (!has_sequence_) return std::nullopt;
  const Dim s = Dim::Symbol(kLengthSymbol);
  const std::int64_t run = lengths_[0] - lengths_[1], rise = values[0] - values[1];
  if (rise % run == 0) {
    const Dim line = s * (rise / run) + (values[0] - rise / run * lengths_[0]);
    if (Fits(line, values, count)) return line;
  }
  for (const std::int64_t divisor : {2, 3, 4, 5, 6, 7, 8, 16, 32, 64}) {
    for (const std::int64_t factor : {1, 2, 3}) {
      for (std::int64_t offset = -2 * divisor; offset <= 2 * divisor; ++offset) {
        const Dim quotient = FloorDiv(s * factor + offset, divisor);
        if (Fits(quotient, values, count)) return quotient;
      }
    }
  }
  return std::nullopt;
}

std::optional<Dim> LengthProbes::Fit(const std::vector<std::int64_t>& values) {
  if (auto dim = FitFirst(values, count())) return dim;
  if (lengths_.size() <= 4) return std::nullopt;
  auto dim = FitFirst(values, count() - 1);
  if (dim) ForgetLonger();
  return dim;
}

}  // namespace autosp::frontend
