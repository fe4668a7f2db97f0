#pragma once

#include <autosp/sharding/op_rules.h>

#include <string>

namespace autosp {

// The text of docs/<page>.md: "passes", "sharding-rules" (or "rules"), "errors", "options". Another page is kBadOption.
Expected<std::string> DocsPage(const std::string& page, const RuleTable& rules);

}  // namespace autosp
