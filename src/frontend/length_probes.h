#pragma once

#include <autosp/ir/dim.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace autosp::frontend {

constexpr const char* kLengthSymbol = "s0";

// The sequence lengths at which a program is looked at. A program without a sequence has one probe.
//   example length 64 -> 64, 56, 40, 24, and 137, which may fail
class LengthProbes {
 public:
  explicit LengthProbes(std::optional<std::int64_t> example_length);

  // Probe 0 is the example. While it is alive, the last one is longer than the example.
  std::size_t count() const { return lengths_.size(); }
  std::int64_t length(std::size_t probe) const { return lengths_[probe]; }
  bool has_sequence() const { return has_sequence_; }
  bool is_longer(std::size_t probe) const { return has_sequence_ && lengths_[probe] > lengths_.front(); }
  // The program does something else above the example length, or cannot run there.
  void ForgetLonger();

  // Value of a size in s0 at one probe.
  std::optional<std::int64_t> At(const Dim& dim, std::size_t probe) const;
  // The size that has these values, one per probe: a constant, a*s0 + b, or floordiv(a*s0 + b, c) with small numbers.
  // Forgets the longer probe where only the others fit. Nothing when no formula fits.
  std::optional<Dim> Fit(const std::vector<std::int64_t>& values);

 private:
  std::optional<Dim> FitFirst(const std::vector<std::int64_t>& values, std::size_t count) const;
  bool Fits(const Dim& dim, const std::vector<std::int64_t>& values, std::size_t count) const;

  std::vector<std::int64_t> lengths_;
  bool has_sequence_ = false;
};

}  // namespace autosp::frontend
