// autosp-opt: runs passes over a graph in text form. See --help, or docs/options.md.
#include "autosp_opt_arguments.h"
#include "autosp_opt_docs.h"
#include "autosp_opt_report.h"

#include <autosp/ir/parser.h>
#include <autosp/ir/printer.h>
#include <autosp/pass/problem.h>
#include <autosp/pass/reproducer.h>
#include <autosp/support/build_info.h>

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <sstream>

namespace autosp {
namespace {

Expected<std::string> ReadFile(const std::string& path) {
  std::ostringstream text;
  if (path == "-") {
    text << std::cin.rdbuf();
    return text.str();
  }
  errno = 0;
  std::ifstream stream(path, std::ios::binary);
  // Opening a directory succeeds, reading from it does not.
  if (stream) stream.peek();
  if (!stream.is_open() || stream.bad()) {
    return MakeProblem(DiagnosticCode::kFile,
                       fmt::format("cannot read {}: {}", path, errno != 0 ? std::strerror(errno) : "read failed"));
  }
  stream.clear();
  text << stream.rdbuf();
  return text.str();
}

// What a command line and, with --run-reproducer, the head of the file ask of the library.
Expected<CompileOptions> MakeOptions(const OptArguments& arguments, const std::string& text,
                                     const std::string& source) {
  CompileOptions options;
  options.manager = arguments.manager;
  options.pipeline.clear();
  if (arguments.run_reproducer) {
    AUTOSP_ASSIGN_OR_RETURN(const Reproducer reproducer, ParseReproducer(text, source));
    options.pipeline = reproducer.pipeline;
    options.pass = reproducer.options;
    options.manager.verify_each = reproducer.verify_each;
    options.extra_rules = reproducer.rules;
  }
  // The command line wins over the head of the file.
  for (const auto& [key, value] : arguments.options) AUTOSP_RETURN_IF_ERROR(SetOption(options.pass, key, value));
  if (arguments.pipeline) options.pipeline = *arguments.pipeline;
  if (arguments.verify_each) options.manager.verify_each = *arguments.verify_each;
  if (arguments.ranks) options.pass.sequence_parallel_size = *arguments.ranks;
  if (!arguments.rules_file.empty()) {
    AUTOSP_ASSIGN_OR_RETURN(const std::string rules, ReadFile(arguments.rules_file));
    options.extra_rules = rules + "\n" + options.extra_rules;  // In front, so that its line numbers hold.
    options.extra_rules_source = arguments.rules_file;
  }
  if (arguments.print_after_all || arguments.print_after_change) {
    options.observer = [all = arguments.print_after_all](const Pass& pass, const Graph& graph, bool changed) {
      if (!all && !changed) return;
      std::cerr << fmt::format("// ----- after {} ({})\n{}", pass.name(), changed ? "changed" : "unchanged",
                               Print(graph));
    };
  }
  return options;
}

void OverrideRanks(Graph& graph, std::int64_t ranks) {
  for (MeshAxis& axis : graph.mesh()) {
    if (axis.name == "sp") axis.size = ranks;
  }
}

// The text for standard output.
Expected<std::string> Transform(const OptArguments& arguments) {
  const std::string source = arguments.file == "-" ? "<stdin>" : arguments.file;
  AUTOSP_ASSIGN_OR_RETURN(const std::string text, ReadFile(arguments.file));
  AUTOSP_ASSIGN_OR_RETURN(const CompileOptions options, MakeOptions(arguments, text, source));
  AUTOSP_ASSIGN_OR_RETURN(Graph graph, Parse(text, source));
  if (arguments.ranks) OverrideRanks(graph, *arguments.ranks);
  AUTOSP_ASSIGN_OR_RETURN(const CompileResult result, compile(graph, options));
  for (const Remark& remark : result.remarks) {
    if (remark.warning) std::cerr << fmt::format("warning: {}: {}\n", remark.value, remark.text);
  }
  if (arguments.timing) std::cerr << TimingTable(result.timings);
  if (!arguments.explain.empty()) return Explain(graph, result, arguments.explain);
  return arguments.json ? ResultJson(graph, result) : Print(graph);
}

Expected<std::string> RunRequest(const OptArguments& arguments) {
  if (arguments.help) return OptHelp();
  if (arguments.version) return VersionText("autosp-opt");
  if (arguments.list_passes) return ListPasses();
  if (arguments.list_rules || !arguments.docs.empty()) {
    AUTOSP_ASSIGN_OR_RETURN(RuleTable rules, RuleTable::BuiltIn());
    if (!arguments.docs.empty()) return DocsPage(arguments.docs, rules);
    if (!arguments.rules_file.empty()) {
      AUTOSP_ASSIGN_OR_RETURN(const std::string text, ReadFile(arguments.rules_file));
      AUTOSP_RETURN_IF_ERROR(rules.AddText(text, arguments.rules_file));
    }
    return ListRules(rules);
  }
  return Transform(arguments);
}

int Main(const std::vector<std::string>& words) {
  const Expected<OptArguments> arguments = ParseOptArguments(words);
  const Expected<std::string> output =
      arguments.ok() ? RunRequest(*arguments) : Expected<std::string>(arguments.status());
  if (output.ok()) {
    std::cout << *output << std::flush;
    if (std::cout) return 0;
    std::cerr << "autosp-opt: cannot write standard output\n";
    return 1;
  }
  std::string text = output.status().ToString();
  if (!text.ends_with('\n')) text += '\n';
  std::cerr << text;
  if (std::find(words.begin(), words.end(), "--json") != words.end()) std::cout << DiagnosticsJson(output.status());
  return 1;
}

}  // namespace
}  // namespace autosp

int main(int argc, char** argv) { return autosp::Main(std::vector<std::string>(argv + 1, argv + argc)); }
