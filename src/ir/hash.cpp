#include <autosp/ir/hash.h>
#include <autosp/ir/printer.h>

#include <fmt/format.h>

#include <string_view>

namespace autosp {
namespace {

// Cuts the first line off `rest`.
std::string_view TakeLine(std::string_view& rest) {
  const std::size_t end = rest.find('\n');
  const std::string_view line = rest.substr(0, end);
  rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  return line;
}

std::string Trimmed(std::string_view line) {
  const std::size_t start = line.find_first_not_of(' ');
  return start == std::string_view::npos ? std::string() : std::string(line.substr(start));
}

}  // namespace

std::uint64_t Hash(const Graph& graph) {
  const std::string text = Print(graph, {.locations = false});
  std::uint64_t hash = 0xcbf29ce484222325;
  for (char c : text) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3;
  }
  return hash;
}

std::string HashText(const Graph& graph) { return fmt::format("{:016x}", Hash(graph)); }

std::pair<std::string, std::string> FirstDifference(const Graph& a, const Graph& b) {
  const std::string text_a = Print(a, {.locations = false}), text_b = Print(b, {.locations = false});
  std::string_view rest_a = text_a, rest_b = text_b;
  while (!rest_a.empty() || !rest_b.empty()) {
    const std::string_view line_a = TakeLine(rest_a), line_b = TakeLine(rest_b);
    if (line_a != line_b) return {Trimmed(line_a), Trimmed(line_b)};
  }
  return {};
}

}  // namespace autosp
