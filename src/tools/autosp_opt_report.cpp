#include "autosp_opt_report.h"

#include <autosp/ir/printer.h>
#include <autosp/pass/problem.h>
#include <autosp/pass/suggest.h>

#include <fmt/format.h>

namespace autosp {
namespace {

std::string Quoted(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (c == '\n') {
      result += "\\n";
    } else if (static_cast<unsigned char>(c) < 0x20) {
      result += fmt::format("\\u{:04x}", static_cast<int>(c));
    } else {
      result += c;
    }
  }
  return result + "\"";
}

std::string LocationJson(const SourceLocation& location) {
  if (!location.known()) return "null";
  return fmt::format(R"({{"file": {}, "line": {}, "function": {}}})", Quoted(location.file), location.line,
                     Quoted(location.function));
}

template <typename T, typename F>
std::string ListJson(const std::vector<T>& items, const F& item_json) {
  std::string text = "[";
  for (std::size_t i = 0; i < items.size(); ++i) text += (i == 0 ? "\n    " : ",\n    ") + item_json(items[i]);
  return text + (items.empty() ? "]" : "\n  ]");
}

std::string ExplainRemark(const Remark& remark) {
  std::string text = fmt::format("  {}: {}", remark.pass, remark.text);
  if (remark.location.known()) text += fmt::format("  ({}:{})", remark.location.file, remark.location.line);
  return text + "\n";
}

}  // namespace

std::string ListPasses() {
  std::string text;
  for (const PassInfo& info : AllPasses()) {
    const std::string forms = fmt::format("{} -> {}", ToString(info.form_in), ToString(info.form_out));
    text += fmt::format("{:<24} {:<26} {}\n", info.name, forms, info.summary);
  }
  return text;
}

std::string ListRules(const RuleTable& rules) {
  std::string text;
  for (const auto& [name, rule] : rules.rules()) {
    text += fmt::format("{}({}): {}\n", name, fmt::join(rule.parameters, ", "), rule.text);
  }
  return text;
}

std::string TimingTable(const std::vector<PassTiming>& timings) {
  std::string text = fmt::format("{:<24} {:>10} {:>10} {:>8}  {}\n", "pass", "ms", "check ms", "nodes", "changed");
  PassTiming total{.pass = "total"};
  for (const PassTiming& timing : timings) {
    text += fmt::format("{:<24} {:>10.3f} {:>10.3f} {:>8}  {}\n", timing.pass, timing.seconds * 1e3,
                        timing.verify_seconds * 1e3, timing.nodes, timing.changed ? "yes" : "no");
    total.seconds += timing.seconds;
    total.verify_seconds += timing.verify_seconds;
  }
  return text +
         fmt::format("{:<24} {:>10.3f} {:>10.3f}\n", total.pass, total.seconds * 1e3, total.verify_seconds * 1e3);
}

Expected<std::string> Explain(const Graph& graph, const CompileResult& result, const std::string& name) {
  const std::string bare = name.starts_with("%") ? name.substr(1) : name;
  const bool all = name == "all" && graph.Find(bare) == nullptr;
  std::string text;
  if (const Node* node = graph.Find(bare)) text += Describe(*node) + "\n";
  std::string last_value;
  for (const Remark& remark : result.remarks) {
    const bool is_about = remark.value == bare || remark.value == "%" + bare;
    if (!all && !is_about) continue;
    if (all && (text.empty() || remark.value != last_value)) {
      text += (remark.value.empty() ? "graph" : remark.value) + "\n";
      last_value = remark.value;
    } else if (text.empty()) {
      text += "%" + bare + "  (not in the resulting graph)\n";
    }
    text += ExplainRemark(remark);
  }
  if (!text.empty() || all) return text;
  std::vector<std::string> names;
  for (const auto& node : graph.nodes()) {
    if (!node->name.empty()) names.push_back("%" + node->name);
  }
  return MakeProblem(DiagnosticCode::kBadOption,
                     fmt::format("--explain names the value \"%{}\", which the graph @{} does not have{}", bare,
                                 graph.name(), DidYouMean("%" + bare, names)),
                     "use --explain=all to see every decision");
}

std::string ResultJson(const Graph& graph, const CompileResult& result) {
  const std::string remarks = ListJson(result.remarks, [](const Remark& remark) {
    return fmt::format(R"({{"pass": {}, "value": {}, "text": {}, "location": {}, "warning": {}}})", Quoted(remark.pass),
                       Quoted(remark.value), Quoted(remark.text), LocationJson(remark.location), remark.warning);
  });
  const std::string timings = ListJson(result.timings, [](const PassTiming& timing) {
    return fmt::format(R"({{"pass": {}, "seconds": {:.6f}, "verify_seconds": {:.6f}, "changed": {}, "nodes": {}}})",
                       Quoted(timing.pass), timing.seconds, timing.verify_seconds, timing.changed, timing.nodes);
  });
  return fmt::format(
      "{{\n  \"ok\": true,\n  \"form\": {},\n  \"plan_hash\": {},\n  \"partitioned\": {},\n"
      "  \"graph\": {},\n  \"remarks\": {},\n  \"timings\": {}\n}}\n",
      Quoted(ToString(graph.form())), Quoted(result.plan_hash), result.partitioned, Quoted(Print(graph)), remarks,
      timings);
}

std::string DiagnosticsJson(const Status& status) {
  const std::string diagnostics = ListJson(status.diagnostics(), [](const Diagnostic& diagnostic) {
    std::string notes;
    for (const std::string& note : diagnostic.notes) notes += (notes.empty() ? "" : ", ") + Quoted(note);
    const std::string hint = diagnostic.hint.empty() ? InfoOf(diagnostic.code).remedy : diagnostic.hint;
    return fmt::format(R"({{"code": {}, "message": {}, "location": {}, "subject": {}, "notes": [{}], "hint": {}}})",
                       Quoted(CodeName(diagnostic.code)), Quoted(diagnostic.message), LocationJson(diagnostic.location),
                       Quoted(diagnostic.subject), notes, Quoted(hint));
  });
  return fmt::format("{{\n  \"ok\": false,\n  \"diagnostics\": {}\n}}\n", diagnostics);
}

}  // namespace autosp
