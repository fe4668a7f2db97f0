#pragma once

#include <autosp/support/status.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace autosp {

// What the user asked for; pass_options.def says unit, allowed values and effect of every field.
struct PassOptions {
#define AUTOSP_PASS_OPTION(type, name, default_value, allowed, effect) type name = default_value;
#include <autosp/pass/pass_options.def>
#undef AUTOSP_PASS_OPTION
  bool operator==(const PassOptions&) const = default;
};

// One row of pass_options.def.
struct PassOptionInfo {
  const char* name;
  bool is_integer;
  std::string default_value;
  const char* allowed;
  const char* effect;
};

const std::vector<PassOptionInfo>& AllPassOptions();  // in the order of pass_options.def

// Sets one field from text; an unknown key or a value that is not allowed is kBadOption.
Status SetOption(PassOptions& options, std::string_view key, std::string_view value);
// "sequence_parallel_size=4 memory_budget=\"3.5 GiB\" ...": every field, in the order of the table.
std::string OptionsText(const PassOptions& options);
// Reads that form; keys that are missing keep their value. All bad words are reported.
Status SetOptionsFromText(PassOptions& options, std::string_view text);

}  // namespace autosp
