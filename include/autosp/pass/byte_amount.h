#pragma once

#include <optional>
#include <string_view>

namespace autosp {

// "300000", "300000 B", "1.5GiB", "512 KiB" -> bytes, a finite number above 0; nothing for any other text.
std::optional<double> ParseBytes(std::string_view text);

}  // namespace autosp
