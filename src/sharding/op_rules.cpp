#include <autosp/sharding/op_rules.h>

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "mapping_builder.h"

namespace autosp {
namespace {

std::string_view Trim(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front()))) text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.remove_suffix(1);
  return text;
}

std::vector<std::string> SplitTrimmed(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (!Trim(text).empty()) {
    const std::size_t end = text.find(separator);
    parts.emplace_back(Trim(text.substr(0, end)));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return parts;
}

Diagnostic BadRule(const std::string& op, std::string_view text, const std::string& why) {
  return Diagnostic{
      DiagnosticCode::kBadRule, fmt::format("cannot read the rule \"{}\" of {}: {}", text, op, why), {}, "", {}, ""};
}

// "(*, k), (n, k), (n)?"
Expected<std::vector<RuleTerm>> ParseTerms(const std::string& op, std::string_view whole, std::string_view text) {
  std::vector<RuleTerm> terms;
  text = Trim(text);
  while (!text.empty()) {
    const std::size_t close = text.find(')');
    if (text.front() != '(' || close == std::string_view::npos) {
      return BadRule(op, whole, fmt::format("expected a group like (b, s, d) at \"{}\"", text));
    }
    RuleTerm term;
    for (std::string& name : SplitTrimmed(text.substr(1, close - 1), ',')) {
      const bool good = name == "*" || (!name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
                          return std::isalnum(c) || c == '_';
                        }));
      if (!good) return BadRule(op, whole, fmt::format("\"{}\" is no factor name", name));
      term.dims.push_back(std::move(name));
    }
    if (std::count(term.dims.begin(), term.dims.end(), "*") > 1) return BadRule(op, whole, "two `*` in one group");
    text = Trim(text.substr(close + 1));
    if (!text.empty() && text.front() == '?') {
      term.optional = true;
      text = Trim(text.substr(1));
    }
    terms.push_back(std::move(term));
    if (text.empty()) break;
    if (text.front() != ',') return BadRule(op, whole, fmt::format("expected \",\" at \"{}\"", text));
    text = Trim(text.substr(1));
  }
  return terms;
}

Status ParseOptions(const std::vector<std::string>& options, std::string_view whole_text, OpRule& rule) {
  for (std::size_t i = 1; i < options.size(); ++i) {
    const std::size_t space = options[i].find(' ');
    const std::string word = options[i].substr(0, space);
    const std::string rest = space == std::string::npos ? "" : std::string(Trim(options[i].substr(space)));
    if (rest.empty()) return BadRule(rule.op, whole_text, fmt::format("option \"{}\" needs a name", options[i]));
    if (word == "reduce") {
      rule.reduction = SplitTrimmed(rest, ',');
    } else if (word == "whole") {
      rule.whole = SplitTrimmed(rest, ',');
    } else if (word == "sizes") {
      rule.sizes = rest;
    } else if (word == "bias") {
      rule.bias = rest;
    } else {
      return BadRule(rule.op, whole_text,
                     fmt::format("unknown option \"{}\"; known: reduce, whole, sizes, bias", word));
    }
  }
  return Status::Ok();
}

}  // namespace

Expected<OpRule> ParseRule(std::string op, std::string_view parameters, std::string_view text) {
  OpRule rule;
  rule.op = std::move(op);
  rule.parameters = SplitTrimmed(parameters, ',');
  rule.text = std::string(Trim(text));
  const std::vector<std::string> parts = SplitTrimmed(text, ';');
  if (parts.empty()) return BadRule(rule.op, text, "it is empty");
  AUTOSP_RETURN_IF_ERROR(ParseOptions(parts, text, rule));
  const std::string& head = parts[0];
  if (head.front() == '@') {
    const std::size_t space = head.find(' ');
    rule.function = head.substr(1, space == std::string::npos ? space : space - 1);
    if (space != std::string::npos) rule.function_argument = std::string(Trim(head.substr(space)));
    if (FindRuleFunction(rule.function) == nullptr) {
      return BadRule(rule.op, text, fmt::format("there is no rule function @{}", rule.function));
    }
    return rule;
  }
  const std::size_t arrow = head.find("->");
  if (arrow == std::string::npos) return BadRule(rule.op, text, "expected operands -> results");
  AUTOSP_ASSIGN_OR_RETURN(rule.operands, ParseTerms(rule.op, text, std::string_view(head).substr(0, arrow)));
  AUTOSP_ASSIGN_OR_RETURN(rule.results, ParseTerms(rule.op, text, std::string_view(head).substr(arrow + 2)));
  for (const auto* names : {&rule.reduction, &rule.whole}) {
    for (const std::string& name : *names) {
      const bool known = std::any_of(rule.operands.begin(), rule.operands.end(), [&](const RuleTerm& term) {
        return std::find(term.dims.begin(), term.dims.end(), name) != term.dims.end();
      });
      if (!known) return BadRule(rule.op, text, fmt::format("no operand has the factor {}", name));
    }
  }
  return rule;
}

Expected<RuleTable> RuleTable::BuiltIn() {
  struct Row {
    const char* op;
    const char* parameters;
    const char* text;
  };
  static constexpr Row kRows[] = {
#define RULE(op, parameters, text) {op, parameters, text},
#include "op_rules.def"
#undef RULE
  };
  RuleTable table;
  Status status;
  for (const Row& row : kRows) {
    Expected<OpRule> rule = ParseRule(row.op, row.parameters, row.text);
    status.Append(rule.ok() ? table.Add(std::move(*rule)) : rule.status());
  }
  if (!status.ok()) return status;
  return table;
}

Status RuleTable::Add(OpRule rule) {
  std::string op = rule.op;
  rules_.insert_or_assign(std::move(op), std::move(rule));
  return Status::Ok();
}

Status RuleTable::AddText(std::string_view text, std::string_view source_name) {
  Status status;
  int line_number = 0;
  while (!text.empty()) {
    ++line_number;
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    line = Trim(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    // "mylib.op(x, w): rule"; the namespace may be written "mylib::op" as in torch.
    std::size_t colon = line.find(": ");
    if (colon == std::string_view::npos) {
      Diagnostic bad = BadRule(std::string(line), line, "expected \"name: rule\" or \"name(parameters): rule\"");
      bad.location = {std::string(source_name), line_number, ""};
      status.Add(std::move(bad));
      continue;
    }
    std::string name(Trim(line.substr(0, colon)));
    std::string parameters;
    if (const std::size_t open = name.find('('); open != std::string::npos && name.back() == ')') {
      parameters = name.substr(open + 1, name.size() - open - 2);
      name.resize(open);
    }
    if (const std::size_t scope = name.find("::"); scope != std::string::npos) {
      name = name.substr(0, scope) + "." + name.substr(scope + 2);
    }
    Expected<OpRule> rule = ParseRule(name, parameters, line.substr(colon + 2));
    if (rule.ok()) {
      status.Append(Add(std::move(*rule)));
    } else {
      for (Diagnostic diagnostic : rule.status().diagnostics()) {
        diagnostic.location = {std::string(source_name), line_number, ""};
        status.Add(std::move(diagnostic));
      }
    }
  }
  return status;
}

const OpRule* RuleTable::Find(std::string_view op) const {
  const auto found = rules_.find(op);
  return found == rules_.end() ? nullptr : &found->second;
}

const Argument* CallArguments::Find(std::string_view parameter) const {
  const Argument* found = node_.attribute(parameter);
  if (found == nullptr) {
    for (std::size_t i = 0; i < rule_.parameters.size() && i < node_.args.size(); ++i) {
      if (rule_.parameters[i] == parameter) found = &node_.args[i];
    }
  }
  return found == nullptr || found->is_none() ? nullptr : found;
}

bool CallArguments::Bool(std::string_view parameter, bool otherwise) const {
  const Argument* found = Find(parameter);
  const bool* value = found == nullptr ? nullptr : found->get<bool>();
  return value == nullptr ? otherwise : *value;
}

std::optional<std::int64_t> CallArguments::Int(std::string_view parameter) const {
  const Argument* found = Find(parameter);
  if (found == nullptr) return std::nullopt;
  if (const auto* value = found->get<std::int64_t>()) return *value;
  return std::nullopt;
}

double CallArguments::Double(std::string_view parameter, double otherwise) const {
  const Argument* found = Find(parameter);
  if (found == nullptr) return otherwise;
  if (const auto* value = found->get<double>()) return *value;
  if (const auto* value = found->get<std::int64_t>()) return static_cast<double>(*value);
  return otherwise;
}

std::vector<std::int64_t> CallArguments::Ints(std::string_view parameter) const {
  std::vector<std::int64_t> values;
  const Argument* found = Find(parameter);
  if (found == nullptr) return values;
  if (const auto* value = found->get<std::int64_t>()) return {*value};
  if (const Argument::List* list = found->list()) {
    for (const Argument& item : *list) {
      if (const auto* value = item.get<std::int64_t>()) values.push_back(*value);
    }
  }
  return values;
}

}  // namespace autosp
