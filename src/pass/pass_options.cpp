#include <autosp/pass/pass_options.h>

#include <autosp/pass/problem.h>
#include <autosp/pass/suggest.h>

#include <fmt/format.h>

#include <charconv>
#include <type_traits>

namespace autosp {
namespace {

std::string ToText(std::int64_t value) { return std::to_string(value); }
std::string ToText(const std::string& value) { return value; }

// A value with a blank in it is one word in quotes.
std::string Quoted(const std::string& value) {
  return value.find(' ') == std::string::npos ? value : '"' + value + '"';
}

Diagnostic BadValue(std::string_view key, std::string_view value, std::string_view allowed) {
  std::string one_of(allowed);
  for (std::size_t at = 0; (at = one_of.find('|', at)) != std::string::npos;) one_of.replace(at, 1, " or ");
  return MakeProblem(DiagnosticCode::kBadOption, fmt::format("option {} is \"{}\", allowed is {}", key, value, one_of));
}

Status Assign(std::int64_t& field, std::string_view key, std::string_view value, std::string_view allowed) {
  std::int64_t least = 0, parsed = 0;
  std::from_chars(allowed.data(), allowed.data() + allowed.size(), least);
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), parsed);
  if (error != std::errc() || end != value.data() + value.size() || parsed < least)
    return BadValue(key, value, allowed);
  field = parsed;
  return Status::Ok();
}

Status Assign(std::string& field, std::string_view key, std::string_view value, std::string_view allowed) {
  for (std::string_view rest = allowed; !allowed.empty();) {
    const std::size_t bar = rest.find('|');
    if (rest.substr(0, bar) == value) break;
    if (bar == std::string_view::npos) return BadValue(key, value, allowed);
    rest.remove_prefix(bar + 1);
  }
  field = value;
  return Status::Ok();
}

// The words of a text; quotes keep blanks and are left out.
std::vector<std::string> Words(std::string_view text) {
  std::vector<std::string> words;
  bool in_word = false, in_quotes = false;
  for (const char c : text) {
    if (c == '"') in_quotes = !in_quotes;
    const bool blank = c == ' ' && !in_quotes;
    if (!blank && !in_word) words.emplace_back();
    if (!blank && c != '"') words.back() += c;
    in_word = !blank;
  }
  return words;
}

}  // namespace

const std::vector<PassOptionInfo>& AllPassOptions() {
  static const std::vector<PassOptionInfo> kOptions = [] {
    const PassOptions defaults;
    return std::vector<PassOptionInfo>{
#define AUTOSP_PASS_OPTION(type, name, default_value, allowed, effect) \
  {#name, std::is_same_v<type, std::int64_t>, ToText(defaults.name), allowed, effect},
#include <autosp/pass/pass_options.def>
#undef AUTOSP_PASS_OPTION
    };
  }();
  return kOptions;
}

Status SetOption(PassOptions& options, std::string_view key, std::string_view value) {
#define AUTOSP_PASS_OPTION(type, name, default_value, allowed, effect) \
  if (key == #name) return Assign(options.name, key, value, allowed);
#include <autosp/pass/pass_options.def>
#undef AUTOSP_PASS_OPTION
  std::vector<std::string> names;
  for (const PassOptionInfo& option : AllPassOptions()) names.emplace_back(option.name);
  return MakeProblem(DiagnosticCode::kBadOption,
                     fmt::format("no option is named \"{}\"{}", key, DidYouMean(key, names)));
}

std::string OptionsText(const PassOptions& options) {
  std::string text;
#define AUTOSP_PASS_OPTION(type, name, default_value, allowed, effect) \
  text += (text.empty() ? "" : " ") + std::string(#name) + "=" + Quoted(ToText(options.name));
#include <autosp/pass/pass_options.def>
#undef AUTOSP_PASS_OPTION
  return text;
}

Status SetOptionsFromText(PassOptions& options, std::string_view text) {
  Status status;
  for (const std::string& word : Words(text)) {
    const std::size_t equals = word.find('=');
    if (equals == std::string::npos) {
      status.Add(
          MakeProblem(DiagnosticCode::kBadOption, fmt::format("option \"{}\" has no value, expected key=value", word)));
      continue;
    }
    status.Append(SetOption(options, word.substr(0, equals), word.substr(equals + 1)));
  }
  return status;
}

}  // namespace autosp
