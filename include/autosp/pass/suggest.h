#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace autosp {

// The candidate that needs the fewest edits to become `word` (the first of equals), or empty when none is close:
// more than a third of the longer word would have to change.
std::string NearestName(std::string_view word, const std::vector<std::string>& candidates);

// "; did you mean \"x\"" or empty.
std::string DidYouMean(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace autosp
