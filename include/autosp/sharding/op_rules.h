#pragma once

#include <autosp/ir/graph.h>
#include <autosp/sharding/factor_mapping.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace autosp {

// One term of an einsum-like rule: "(*, k)?" has dims {"*", "k"} and is optional.
struct RuleTerm {
  std::vector<std::string> dims;
  bool optional = false;
};

// One row of op_rules.def, parsed. Notation: docs/sharding-rules.md.
struct OpRule {
  std::string op;                       // "aten.linear"
  std::vector<std::string> parameters;  // schema order; "input", "weight", "bias"
  std::string text;                     // the rule as written
  // Either an einsum: operands (parameter i is operand i) and results ...
  std::vector<RuleTerm> operands, results;
  std::vector<std::string> reduction, whole;  // factor names
  // ... or a named function with one optional word: "@reduce sum".
  std::string function, function_argument;
  std::string sizes;  // the parameter that holds sizes of the result, "" for none
  std::string bias;   // the parameter that is added once: where it is given, the reduction factors are needed whole
  bool is_function() const { return !function.empty(); }
};

// Reads one rule, e.g. ParseRule("aten.linear", "input, weight, bias", "(*, k), (n, k), (n)? -> (*, n); reduce k").
Expected<OpRule> ParseRule(std::string op, std::string_view parameters, std::string_view text);

// The table: op_rules.def plus the user's rows.
class RuleTable {
 public:
  static Expected<RuleTable> BuiltIn();
  Status Add(OpRule rule);  // Replaces a row of the same name.
  // One rule per line, "name: rule" or "name(parameters): rule"; '#' starts a comment; all bad lines are reported.
  Status AddText(std::string_view text, std::string_view source_name);
  const OpRule* Find(std::string_view op) const;  // null when there is no row
  const std::map<std::string, OpRule, std::less<>>& rules() const { return rules_; }

 private:
  std::map<std::string, OpRule, std::less<>> rules_;
};

// The arguments of a call by parameter name, positional or named.
class CallArguments {
 public:
  CallArguments(const Node& node, const OpRule& rule) : node_(node), rule_(rule) {}
  // null when absent or none
  const Argument* Find(std::string_view parameter) const;
  bool Bool(std::string_view parameter, bool otherwise) const;
  std::optional<std::int64_t> Int(std::string_view parameter) const;
  double Double(std::string_view parameter, double otherwise) const;
  std::vector<std::int64_t> Ints(std::string_view parameter) const;  // One int counts as a list of one.
  const Node& node() const { return node_; }
  const OpRule& rule() const { return rule_; }

 private:
  const Node& node_;
  const OpRule& rule_;
};

}  // namespace autosp
