#include <autosp/pass/byte_amount.h>

#include <charconv>
#include <cmath>

namespace autosp {
namespace {

double FactorOf(std::string_view unit) {
  if (unit.empty() || unit == "B") return 1;
  if (unit == "KiB") return 1 << 10;
  if (unit == "MiB") return 1 << 20;
  if (unit == "GiB") return 1 << 30;
  return 0;
}

}  // namespace

std::optional<double> ParseBytes(std::string_view text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  const double bytes = number * FactorOf(unit);
  if (error != std::errc() || !std::isfinite(bytes) || bytes <= 0) return std::nullopt;
  return bytes;
}

}  // namespace autosp
