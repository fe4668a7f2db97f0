#include "autosp_run_arguments.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <string_view>
#include <utility>

namespace autosp {
namespace {

Diagnostic Bad(std::string message) {
  return {DiagnosticCode::kBadOption, std::move(message), {}, {}, {}, "see autosp-run --help"};
}

Diagnostic BadValue(std::string_view flag, std::string_view value, std::string_view expected) {
  return Bad(std::string(flag) + " is \"" + std::string(value) + "\", expected " + std::string(expected));
}

std::optional<std::int64_t> ToInt(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<double> ToPositive(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !std::isfinite(value) || value <= 0) return std::nullopt;
  return value;
}

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(separator, begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

Status SetInt(std::string_view flag, const std::string& value, std::int64_t least, std::int64_t& to) {
  const auto number = ToInt(value);
  if (!number || *number < least) return BadValue(flag, value, "an integer from " + std::to_string(least));
  to = *number;
  return Status::Ok();
}

Status SetRanks(RunArguments& to, const std::string& value) {
  std::int64_t number = 0;
  AUTOSP_RETURN_IF_ERROR(SetInt("--ranks", value, 1, number));
  if (number > 1024) return BadValue("--ranks", value, "at most 1024 simulated ranks");
  to.ranks = static_cast<int>(number);
  return Status::Ok();
}

Status SetSeed(RunArguments& to, const std::string& value) {
  std::int64_t number = 0;
  AUTOSP_RETURN_IF_ERROR(SetInt("--seed", value, 0, number));
  to.inputs.seed = static_cast<std::uint64_t>(number);
  return Status::Ok();
}

Status SetSteps(RunArguments& to, const std::string& value) {
  std::int64_t number = 0;
  AUTOSP_RETURN_IF_ERROR(SetInt("--steps", value, 1, number));
  if (number > std::numeric_limits<int>::max()) return BadValue("--steps", value, "fewer steps");
  to.steps = static_cast<int>(number);
  return Status::Ok();
}

Status SetDtype(RunArguments& to, const std::string& value) {
  to.dtype = DTypeFromString(value);
  if (to.dtype == DType::kF64 || to.dtype == DType::kF32 || to.dtype == DType::kBF16 || to.dtype == DType::kF16) {
    return Status::Ok();
  }
  return BadValue("--dtype", value, "f64, f32, bf16 or f16");
}

Status SetSizes(RunArguments& to, const std::string& value) {
  for (const std::string& part : Split(value, ',')) {
    const std::size_t equals = part.find('=');
    const auto size = equals == std::string::npos ? std::nullopt : ToInt(std::string_view(part).substr(equals + 1));
    if (!size || *size < 0 || equals == 0) return BadValue("--sizes", value, "symbols and sizes, s0=64,b=2");
    to.inputs.sizes[part.substr(0, equals)] = *size;
  }
  return Status::Ok();
}

Status SetIntRange(RunArguments& to, const std::string& value) {
  const std::size_t equals = value.find('='), colon = value.find(':', equals == std::string::npos ? 0 : equals);
  if (equals != std::string::npos && equals > 0 && colon != std::string::npos) {
    const auto first = ToInt(std::string_view(value).substr(equals + 1, colon - equals - 1));
    const auto end = ToInt(std::string_view(value).substr(colon + 1));
    if (first && end && *first < *end) {
      to.inputs.int_ranges[value.substr(value[0] == '%' ? 1 : 0, equals - (value[0] == '%' ? 1 : 0))] = {*first, *end};
      return Status::Ok();
    }
  }
  return BadValue("--int-range", value, "name=first:end with first below end");
}

Status SetOutputLayout(RunArguments& to, const std::string& value) {
  constexpr std::string_view kExpected = "INDEX=whole, INDEX=sum or INDEX=DIM,LENGTH[,MAJOR,MINOR]";
  const std::size_t equals = value.find('=');
  const auto index = ToInt(std::string_view(value).substr(0, std::min(equals, value.size())));
  if (equals == std::string::npos || !index || *index < 0 || *index > 1000)
    return BadValue("--output-layout", value, kExpected);
  const std::string text = value.substr(equals + 1);
  Layout layout;
  if (text == "whole") {
    layout = Layout::Replicated();
  } else if (text == "sum") {
    layout = Layout::Partial();
  } else {
    const std::vector<std::string> parts = Split(text, ',');
    const auto dim = ToInt(parts[0]);
    if (!dim || *dim < 0 || *dim > 64 || (parts.size() != 2 && parts.size() != 4)) {
      return BadValue("--output-layout", value, kExpected);
    }
    std::vector<Dim> sizes;
    for (std::size_t i = 1; i < parts.size(); ++i) {
      AUTOSP_ASSIGN_OR_RETURN(const Dim size, Dim::Parse(parts[i]));
      sizes.push_back(size);
    }
    layout = Layout::Sharded(static_cast<int>(*dim), sizes[0], sizes.size() > 1 ? sizes[1] : Dim(1),
                             sizes.size() > 1 ? sizes[2] : Dim(1));
  }
  if (to.output_layouts.size() <= static_cast<std::size_t>(*index)) {
    to.output_layouts.resize(static_cast<std::size_t>(*index) + 1);
  }
  to.output_layouts[static_cast<std::size_t>(*index)] = layout;
  return Status::Ok();
}

struct Flag {
  const char* name;
  const char* placeholder;  // Of the value; null for a switch.
  const char* help;
  std::function<Status(RunArguments&, const std::string&)> apply;
};

Status SetPositive(const char* flag, const std::string& value, std::optional<double>& to) {
  to = ToPositive(value);
  return to ? Status::Ok() : Status(BadValue(flag, value, "a positive number"));
}

std::vector<Flag> Flags() {
  return {
      {"--ranks", "P", "simulated ranks (default: \"sp\" of the file's mesh)", SetRanks},
      {"--check", "WHOLE", "compare outputs and gradients with this unsharded graph; exit status 1 if they differ",
       [](RunArguments& to, const std::string& value) { return to.whole_file = value, Status::Ok(); }},
      {"--tolerance", "T", "largest relative difference for --check (default: 1e-12 in f64, 1e-5 in f32, 3e-2 below)",
       [](RunArguments& to, const std::string& value) { return SetPositive("--tolerance", value, to.tolerance); }},
      {"--output-layout", "I=LAYOUT",
       "how output I lies over the ranks: whole, sum, or DIM,LENGTH[,MAJOR,MINOR]\n"
       "(default: whole, or sharded on the one dim that is 1/P of the whole); may be repeated",
       SetOutputLayout},
      {"--sizes", "S=N,...", "values of the symbols in the input types (default: the file's hints)", SetSizes},
      {"--dtype", "T", "compute in f64, f32, bf16 or f16, whatever the file says", SetDtype},
      {"--int-range", "NAME=A:B",
       "take the integers of input NAME from A to B-1; may be repeated (default: token ids\n"
       "and labels from the sizes of their embedding or loss, everything else 0 or 1)",
       SetIntRange},
      {"--seed", "N", "seed of the random inputs (default 0)", SetSeed},
      {"--steps", "N", "train N steps of SGD on output 0: on the inputs marked grad, or on all floating ones",
       SetSteps},
      {"--learning-rate", "R", "step size of --steps (default 0.01)",
       [](RunArguments& to, const std::string& value) {
         std::optional<double> rate;
         AUTOSP_RETURN_IF_ERROR(SetPositive("--learning-rate", value, rate));
         return to.learning_rate = *rate, Status::Ok();
       }},
      {"--json", nullptr, "print one JSON object in place of tables",
       [](RunArguments& to, const std::string&) { return to.json = true, Status::Ok(); }},
      {"--version", nullptr, "print the version and what was built",
       [](RunArguments& to, const std::string&) { return to.version = true, Status::Ok(); }},
      {"--help", nullptr, "print this",
       [](RunArguments& to, const std::string&) { return to.help = true, Status::Ok(); }},
  };
}

}  // namespace

Expected<RunArguments> ParseRunArguments(const std::vector<std::string>& arguments) {
  const std::vector<Flag> flags = Flags();
  RunArguments result;
  Status problems;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (!argument.starts_with("--")) {
      if (!result.file.empty())
        problems.Add(Bad("two files are given, \"" + result.file + "\" and \"" + argument + "\""));
      result.file = argument;
      continue;
    }
    const std::size_t equals = argument.find('=');
    const std::string name = argument.substr(0, equals);
    const Flag* flag = nullptr;
    for (const Flag& candidate : flags) {
      if (name == candidate.name) flag = &candidate;
    }
    if (flag == nullptr) {
      problems.Add(Bad("autosp-run has no option " + name));
      continue;
    }
    std::string value;
    if (flag->placeholder != nullptr && equals == std::string::npos && ++i >= arguments.size()) {
      problems.Add(Bad(name + " wants a value, " + flag->placeholder));
      break;
    }
    if (flag->placeholder != nullptr) value = equals == std::string::npos ? arguments[i] : argument.substr(equals + 1);
    problems.Append(flag->apply(result, value));
  }
  if (result.file.empty() && !result.help && !result.version && problems.ok()) problems.Add(Bad("no file is given"));
  if (!problems.ok()) return problems;
  return result;
}

std::string RunHelp() {
  constexpr std::size_t kColumn = 28;
  std::string text =
      "autosp-run FILE [options]: run a graph in text form on P simulated ranks in this process, on random inputs\n\n";
  for (const Flag& flag : Flags()) {
    std::string line =
        "  " + std::string(flag.name) + (flag.placeholder == nullptr ? "" : " " + std::string(flag.placeholder));
    line.resize(std::max(line.size() + 1, kColumn), ' ');
    for (const char c : std::string_view(flag.help)) {
      line += c;
      if (c == '\n') line.append(kColumn, ' ');
    }
    text += line + "\n";
  }
  return text +
         "\nExamples\n"
         "  autosp-run layer.aspir --sizes s0=64\n"
         "      run a captured graph and print its outputs\n"
         "  autosp-opt layer.aspir --pipeline=autosp --ranks 4 > parts.aspir\n"
         "  autosp-run parts.aspir --check layer.aspir --sizes s0=41 --dtype f64\n"
         "      is the partitioned graph equal to the whole one, in values and gradients, for a length that 4 does not "
         "divide?\n"
         "  autosp-run parts.aspir --check layer.aspir --sizes s0=64 --dtype f64 --steps 20\n"
         "      the same over 20 training steps\n"
         "\nExit status: 0 done (and equal, with --check), 1 different, 2 an error.\n";
}

}  // namespace autosp
