// autosp_program_fuzz --programs 10000 --seed 1: random programs through the whole pipeline, on simulated ranks,
// against themselves unsharded. Exit status 0 when every one of them is equal or refused, 1 otherwise.
#include <ATen/Parallel.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include <unistd.h>

#include "mutation.h"

namespace {

using namespace autosp::test;

struct Arguments {
  std::uint64_t programs = 1000, seed = 1;
  std::uint64_t show = 5;  // So many failures are shrunk and printed.
  bool print = false;      // Print each program.
  bool shrink = true;
  bool mutate = false;  // Mutants of the partitioned programs, given to the verifier.
};

volatile std::uint64_t running = 0;  // For the handler of a crash.

void SayWhichSeed(int signal) {
  char text[96];
  const int length = std::snprintf(text, sizeof text, "\ncrash (signal %d) at --seed %llu --programs 1\n", signal,
                                   static_cast<unsigned long long>(running));
  if (write(2, text, static_cast<std::size_t>(length)) < 0) _exit(2);
  _exit(2);
}

int Usage() {
  std::puts(
      "autosp_program_fuzz [--programs N] [--seed S] [--show N] [--print] [--no-shrink] [--mutate]\n"
      "Program i is made from the seed S + i: a failure at seed K is repeated by --seed K --programs 1.\n"
      "--mutate: every mutant of each partitioned program is given to verify-partitioned and run.");
  return 2;
}

// Exit status 0 when every mutant that changes a result is refused.
int Mutate(const Arguments& arguments, const autosp::RuleTable& rules) {
  MutationCount total;
  for (std::uint64_t i = 0; i < arguments.programs; ++i) {
    running = arguments.seed + i;
    total += CheckMutants(RandomProgram(arguments.seed + i, rules), true);
    if ((i + 1) % 10 == 0)
      std::fprintf(stderr, "\r%llu programs, %d mutants, %d escaped", static_cast<unsigned long long>(i + 1),
                   total.mutants, total.escaped);
  }
  std::fprintf(stderr, "\n");
  if (total.escaped > 0)
    std::printf("escaped:\n%sthe first of them: %s\n", total.escapes.c_str(), total.first_escape.c_str());
  std::printf("%d mutants; %d change a result, of which %d escape; %d refused, of which %d change nothing\n",
              total.mutants, total.changed, total.escaped, total.caught,
              total.caught - (total.changed - total.escaped));
  return total.escaped == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    const auto number = [&](std::uint64_t& into) {
      into = i + 1 < argc ? std::strtoull(argv[++i], nullptr, 10) : into;
    };
    if (option == "--programs")
      number(arguments.programs);
    else if (option == "--seed")
      number(arguments.seed);
    else if (option == "--show")
      number(arguments.show);
    else if (option == "--print")
      arguments.print = true;
    else if (option == "--mutate")
      arguments.mutate = true;
    else if (option == "--no-shrink")
      arguments.shrink = false;
    else
      return Usage();
  }
  at::set_num_threads(1);
  std::signal(SIGSEGV, SayWhichSeed);
  std::signal(SIGABRT, SayWhichSeed);
  std::signal(SIGFPE, SayWhichSeed);
  const autosp::RuleTable rules = autosp::RuleTable::BuiltIn().value();
  if (arguments.mutate) return Mutate(arguments, rules);
  std::map<std::string, std::uint64_t> counts, failures;
  std::uint64_t with_collectives = 0, shown = 0, failed = 0, collectives = 0;
  for (std::uint64_t i = 0; i < arguments.programs; ++i) {
    const std::uint64_t seed = arguments.seed + i;
    running = seed;
    const Program program = RandomProgram(seed, rules);
    if (arguments.print) std::printf("%s\n", program.Text().c_str());
    const Verdict verdict = CheckProgram(program);
    switch (verdict.outcome) {
      case Outcome::kEqual:
        ++counts["equal"];
        break;
      case Outcome::kRefused:
        ++counts["refused " + verdict.kind];
        break;
      case Outcome::kIllPosed:
        ++counts["ill posed: " + verdict.kind];
        break;
      case Outcome::kFailed:
        ++counts["FAILED " + verdict.kind];
        ++failed;
    }
    collectives += static_cast<std::uint64_t>(verdict.collectives);
    if (verdict.outcome == Outcome::kEqual && verdict.collectives > 0) ++with_collectives;
    if (arguments.print && verdict.outcome != Outcome::kEqual)
      std::printf("%s\n%s\n", verdict.kind.c_str(), verdict.text.c_str());
    if (verdict.outcome == Outcome::kFailed && failures[verdict.kind]++ < arguments.show) {
      ++shown;
      std::printf("\nFAILED (%s) at --seed %llu --programs 1\n%s\n", verdict.kind.c_str(),
                  static_cast<unsigned long long>(seed), verdict.text.c_str());
      if (arguments.shrink) {
        const Program small = Shrink(program);
        std::printf("shrunk to:\n%s\n%s\n", small.Text().c_str(), CheckProgram(small).text.c_str());
      }
      std::fflush(stdout);
    }
    if ((i + 1) % 500 == 0)
      std::fprintf(stderr, "\r%llu programs, %llu failed", static_cast<unsigned long long>(i + 1),
                   static_cast<unsigned long long>(failed));
  }
  std::fprintf(stderr, "\n");
  for (const auto& [what, count] : counts)
    std::printf("%8llu  %s\n", static_cast<unsigned long long>(count), what.c_str());
  std::printf("%llu programs; %llu equal ones exchange data (%.1f %%), %.1f collectives each on average\n",
              static_cast<unsigned long long>(arguments.programs), static_cast<unsigned long long>(with_collectives),
              100.0 * static_cast<double>(with_collectives) / static_cast<double>(arguments.programs),
              static_cast<double>(collectives) / static_cast<double>(arguments.programs));
  return failed == 0 ? 0 : 1;
}
