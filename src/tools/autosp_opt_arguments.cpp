#include "autosp_opt_arguments.h"

#include <autosp/pass/problem.h>
#include <autosp/pass/suggest.h>

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace autosp {
namespace {

enum class Value : std::uint8_t { kNone, kRequired, kOptional };

struct Flag {
  const char* name;
  Value value;
  const char* placeholder;  // Of the value.
  const char* help;
  Status (*apply)(OptArguments&, const std::string& value);
};

Status Bad(std::string message) {
  return MakeProblem(DiagnosticCode::kBadOption, std::move(message), "see autosp-opt --help");
}

std::vector<std::string> SplitAtCommas(const std::string& text) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    if (end > begin) parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

Status SetRanks(OptArguments& to, const std::string& value) {
  std::int64_t ranks = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), ranks);
  if (error != std::errc() || end != value.data() + value.size() || ranks < 1) {
    return Bad(fmt::format("--ranks is \"{}\", expected a number from 1", value));
  }
  to.ranks = ranks;
  return Status::Ok();
}

Status SetVerifyEach(OptArguments& to, const std::string& value) {
  if (!value.empty() && value != "on" && value != "off") {
    return Bad(fmt::format("--verify-each is \"{}\", expected on or off", value));
  }
  to.verify_each = value != "off";
  return Status::Ok();
}

Status SetKeyValue(OptArguments& to, const std::string& value) {
  const std::size_t equals = value.find('=');
  if (equals == std::string::npos) return Bad(fmt::format("--option is \"{}\", expected key=value", value));
  to.options.emplace_back(value.substr(0, equals), value.substr(equals + 1));
  PassOptions scratch;
  return SetOption(scratch, to.options.back().first, to.options.back().second);
}

Status SetPipeline(OptArguments& to, const std::string& value) {
  if (to.pipeline) {
    return Bad(fmt::format("the passes are given twice, as \"{}\" and as \"{}\"", *to.pipeline, value));
  }
  to.pipeline = value;
  return Status::Ok();
}

// Flags whose value is stored and no more.
#define AUTOSP_STORE(statement)                                     \
  [](OptArguments& to, [[maybe_unused]] const std::string& value) { \
    statement;                                                      \
    return Status::Ok();                                            \
  }

const std::vector<Flag>& Flags() {
  static const std::vector<Flag> kFlags = {
      {"--passes", Value::kRequired, "A,B", "passes to run, in this order; none: only read, check and print",
       SetPipeline},
      {"--pipeline", Value::kRequired, "NAME",
       "\"autosp\": every pass of --list-passes; \"autosp-no-lower\": without the last", SetPipeline},
      {"--ranks", Value::kRequired, "P", "size of the mesh axis \"sp\", in place of the file's", SetRanks},
      {"--option", Value::kRequired, "KEY=VALUE", "an option of the passes, see docs/options.md; may be repeated",
       SetKeyValue},
      {"--rules", Value::kRequired, "FILE", "further sharding rules, one per line, see docs/sharding-rules.md",
       AUTOSP_STORE(to.rules_file = value)},
      {"--disable-pass", Value::kRequired, "A,B", "passes to skip; may be repeated",
       AUTOSP_STORE(for (auto& name
                         : SplitAtCommas(value)) to.manager.disabled.push_back(name))},
      {"--stop-after", Value::kRequired, "A", "last pass to run", AUTOSP_STORE(to.manager.stop_after = value)},
      {"--verify-each", Value::kOptional, "on|off", "check the graph after every pass (default on)", SetVerifyEach},
      {"--reproducer-dir", Value::kRequired, "DIR",
       "where a failing pass leaves a reproducer (default: it leaves none)",
       AUTOSP_STORE(to.manager.reproducer_dir = value)},
      {"--run-reproducer", Value::kNone, "", "take passes, options and rules from the head of FILE",
       AUTOSP_STORE(to.run_reproducer = true)},
      {"--print-after-all", Value::kNone, "", "print the graph after every pass, on standard error",
       AUTOSP_STORE(to.print_after_all = true)},
      {"--print-after-change", Value::kNone, "", "the same after passes that changed it",
       AUTOSP_STORE(to.print_after_change = true)},
      {"--timing", Value::kNone, "", "print the seconds of every pass and of its check, on standard error",
       AUTOSP_STORE(to.timing = true)},
      {"--explain", Value::kRequired, "%v|all", "print why value %v is laid out as it is, in place of the graph",
       AUTOSP_STORE(to.explain = value)},
      {"--json", Value::kNone, "", "print graph, plan hash, remarks, timings or diagnostics as one JSON object",
       AUTOSP_STORE(to.json = true)},
      {"--list-passes", Value::kNone, "", "print the passes in pipeline order", AUTOSP_STORE(to.list_passes = true)},
      {"--list-rules", Value::kNone, "", "print the sharding rules", AUTOSP_STORE(to.list_rules = true)},
      {"--docs", Value::kRequired, "PAGE", "print docs/PAGE.md: passes, sharding-rules (or rules), errors or options",
       AUTOSP_STORE(to.docs = value)},
      {"--version", Value::kNone, "", "print the version and what was built", AUTOSP_STORE(to.version = true)},
      {"--help", Value::kNone, "", "print this", AUTOSP_STORE(to.help = true)},
  };
  return kFlags;
}
#undef AUTOSP_STORE

std::string Usage(const Flag& flag) {
  switch (flag.value) {
    case Value::kNone:
      return flag.name;
    case Value::kRequired:
      return fmt::format("{}={}", flag.name, flag.placeholder);
    case Value::kOptional:
      return fmt::format("{}[={}]", flag.name, flag.placeholder);
  }
  return flag.name;
}

// Reads the flag at `words[at]`; moves `at` on when the value is the next word.
Status ApplyFlag(OptArguments& to, const std::vector<std::string>& words, std::size_t& at) {
  const std::string& word = words[at];
  const std::size_t equals = word.find('=');
  const std::string name = word.substr(0, equals);
  const auto flag = std::find_if(Flags().begin(), Flags().end(), [&](const Flag& each) { return each.name == name; });
  if (flag == Flags().end()) {
    std::vector<std::string> names;
    for (const Flag& each : Flags()) names.emplace_back(each.name);
    return Bad(fmt::format("no flag is named \"{}\"{}", name, DidYouMean(name, names)));
  }
  if (equals != std::string::npos) {
    if (flag->value == Value::kNone)
      return Bad(fmt::format("{} takes no value, found \"{}\"", name, word.substr(equals + 1)));
    return flag->apply(to, word.substr(equals + 1));
  }
  if (flag->value != Value::kRequired) return flag->apply(to, "");
  if (at + 1 >= words.size()) return Bad(fmt::format("{} needs a value: {}", name, Usage(*flag)));
  return flag->apply(to, words[++at]);
}

}  // namespace

Expected<OptArguments> ParseOptArguments(const std::vector<std::string>& words) {
  OptArguments result;
  Status status;
  for (std::size_t at = 0; at < words.size(); ++at) {
    if (words[at].starts_with("--")) {
      status.Append(ApplyFlag(result, words, at));
    } else if (result.file.empty()) {
      result.file = words[at];
    } else {
      status.Append(Bad(fmt::format("one file at a time: found \"{}\" after \"{}\"", words[at], result.file)));
    }
  }
  const bool needs_file =
      !result.help && !result.version && !result.list_passes && !result.list_rules && result.docs.empty();
  if (status.ok() && needs_file && result.file.empty()) {
    status.Add(Bad("no file is given; \"-\" reads standard input").diagnostics().front());
  }
  if (!status.ok()) return status;
  return result;
}

std::string OptHelp() {
  std::string text =
      "usage: autosp-opt FILE|- [flags]\n\n"
      "Reads a graph in text form (docs/ir.md), runs passes over it and prints the result on standard output.\n"
      "Diagnostics go to standard error; the exit status is 1 when there is one.\n\n";
  for (const Flag& flag : Flags()) text += fmt::format("  {:<26}  {}\n", Usage(flag), flag.help);
  text +=
      "\nexamples:\n"
      "  autosp-opt layer.aspir --pipeline=autosp --ranks=4              the whole rewrite for 4 ranks\n"
      "  autosp-opt layer.aspir --passes=eliminate-dead-nodes            one pass\n"
      "  autosp-opt layer.aspir --pipeline=autosp --explain=%q           why %q lies as it does\n"
      "  autosp-opt layer.aspir --pipeline=autosp --print-after-change   every step\n"
      "  autosp-opt --run-reproducer autosp-reproducer-0123456789abcdef.aspir\n";
  return text;
}

std::string OptFlagsMarkdown() {
  std::string text = "| flag | effect |\n|---|---|\n";
  for (const Flag& flag : Flags()) {
    std::string usage = Usage(flag);
    for (std::size_t at = 0; (at = usage.find('|', at)) != std::string::npos; at += 2) usage.replace(at, 1, "\\|");
    text += fmt::format("| `{}` | {} |\n", usage, flag.help);
  }
  return text;
}

}  // namespace autosp
