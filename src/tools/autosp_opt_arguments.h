#pragma once

#include <autosp/pass/pass_manager.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace autosp {

// What the command line of autosp-opt asks for.
struct OptArguments {
  std::string file;                     // "-": standard input
  std::optional<std::string> pipeline;  // --passes or --pipeline
  std::optional<std::int64_t> ranks;
  std::vector<std::pair<std::string, std::string>> options;  // --option, checked
  PassManagerOptions manager;
  std::optional<bool> verify_each;
  std::string rules_file;
  std::string explain, docs;
  bool print_after_all = false, print_after_change = false;
  bool timing = false, json = false, run_reproducer = false;
  bool list_passes = false, list_rules = false, version = false, help = false;
};

// All problems are reported at once (kBadOption).
Expected<OptArguments> ParseOptArguments(const std::vector<std::string>& words);

std::string OptHelp();           // --help
std::string OptFlagsMarkdown();  // the table of flags in docs/options.md

}  // namespace autosp
