#include "autosp_opt_docs.h"

#include "autosp_opt_arguments.h"
#include "autosp_pipeline.h"

#include <autosp/pass/problem.h>

#include <fmt/format.h>

#include <array>
#include <map>
#include <utility>

namespace autosp {
namespace {

std::string Head(std::string_view title, std::string_view page) {
  return fmt::format(
      "# {}\n\n<!-- Printed by `autosp-opt --docs={}`; tests/lint/regenerate_docs.sh writes it again. -->\n\n", title,
      page);
}

// Table cells: a bar would end the cell.
std::string Cell(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '|') result += '\\';
    result += c;
  }
  return result;
}

std::string PassesPage() {
  std::string text =
      Head("Passes", "passes") +
      "The pipeline `autosp` runs these in this order. A pass takes a graph in one form and leaves it in "
      "another; the forms are contracts, checked after every pass (docs/ir.md). Details are at the top of "
      "the header named in the last column; `passes/passes.def` says why each stands where it stands.\n\n"
      "| pass | takes | gives | what it does | header |\n|---|---|---|---|---|\n";
  for (const PassInfo& info : AllPasses()) {
    std::string stem = info.name;
    for (char& c : stem) {
      if (c == '-') c = '_';
    }
    const bool any_form = info.make()->Accepts(Form::kCaptured) && info.form_in != Form::kCaptured;
    text +=
        fmt::format("| `{}` | {} | {} | {} | `passes/{}.h` |\n", info.name, any_form ? "any" : ToString(info.form_in),
                    any_form ? "the same" : ToString(info.form_out), Cell(info.summary), stem);
  }
  return text;
}

std::string ErrorsPage() {
  std::string text =
      Head("Errors", "errors") +
      "Every refusal has a code, names the values that disagree and, where it is known, your source line, and "
      "says what to do:\n\n"
      "```\nerror[ASP0201]: ...\n  --> model.py:41 in Router.forward  (%v f32[2, s0@sp, 64])\n"
      "  note: how it came to this\n  hint: what to do\n```\n\n"
      "In Python it is an `autosp.AutoSPError` with `.code` and `.diagnostics`.\n";
  static const std::map<int, const char*> kGroups = {
      {1, "Capture"}, {2, "Sharding"}, {3, "Runtime and engines"}, {4, "Text form and tools"}, {5, "Verification"}};
  int group = 0;
  for (const DiagnosticCodeInfo& info : AllDiagnosticCodes()) {
    const int number = static_cast<int>(info.code);
    if (number / 100 != group) {
      group = number / 100;
      const auto title = kGroups.find(group);
      text += fmt::format("\n## {}\n", title == kGroups.end() ? "Other" : title->second);
    }
    const std::string code = CodeName(info.code);
    text += fmt::format("\n### <a id=\"{}\"></a>{}: {}\n\nWhat to do: {}.\n", code, code, info.title, info.remedy);
  }
  return text;
}

// What each rule function does with the dims of an op, in one line.
constexpr auto kRuleFunctions = std::to_array<std::pair<const char*, const char*>>({
    {"alias", "as pointwise; the result may be the operand itself or share its memory"},
    {"along", "the dims that the argument names (or its default, `dim=-1`) are needed whole, all others pass"},
    {"assertion", "a check of sizes and dtypes; nothing moves for it"},
    {"attention",
     "scaled dot product attention: heads and batch pass, key positions are needed whole; repaired by exchanging "
     "the sequence for the heads"},
    {"batch_norm", "training counts the whole batch and needs all of it; otherwise every dim passes"},
    {"convolution",
     "batch and output channels pass; input channels are summed unless there is a bias or a group; space is needed "
     "whole unless the kernel is one element"},
    {"cross_entropy", "a sum over positions may be cut, the result is a partial sum; class dims are needed whole"},
    {"draw_seed", "every rank draws a number, the largest of a group counts: a partial maximum"},
    {"dropout", "element by element; draws random numbers when it trains"},
    {"einsum", "a letter is a factor, summed where the result lacks it"},
    {"embedding", "rows are needed whole; indices pass, unless the gradient counts or is sparse"},
    {"expand", "dims of size 1 grow; all others pass"},
    {"expand_as", "as expand, to the shape of the other operand"},
    {"factory", "makes a value from sizes; whole on every rank"},
    {"gather",
     "the dim is needed whole in the values, positions of the index pass; other dims pass where both have all of them"},
    {"halo_convolution", "as convolution; the last dim passes too, in one run of blocks whose edges are exchanged"},
    {"index", "indexed dims are needed whole, positions and all other dims pass; masks need everything"},
    {"index_put", "indexed dims and positions are needed whole, all other dims pass"},
    {"index_select", "the indexed dim is needed whole, positions of the index pass"},
    {"last", "so many last dims are needed whole, all others pass"},
    {"layer_norm", "the normalized dims are needed whole, all others pass"},
    {"leading", "only so many first dims pass"},
    {"loss", "a loss per element passes; means and sums are split by normalize-captured-ops"},
    {"matmul", "matrix product with broadcast batch dims; the summed dim gives a partial sum"},
    {"one_hot", "every dim passes if the number of classes is given"},
    {"pad", "padded dims are needed whole, all others pass"},
    {"permute", "dims change places"},
    {"pointwise", "element by element with broadcasting: every dim passes; with a name, those of that operand alone"},
    {"random", "draws random numbers"},
    {"reduce", "`sum`: reduced dims may be cut and give a partial sum; `whole`: they may not"},
    {"repeat", "copies are outer factors, needed whole; the copied dims pass"},
    {"repeat_interleave", "the repeated dim is needed whole unless it is a plain repeat, all others pass"},
    {"reshape",
     "dims are split into common factors, each of which passes; dims without a common split are needed whole"},
    {"reshape_as", "as reshape, to the shape of the other operand"},
    {"size", "the size of the whole value"},
    {"shift", "every dim passes; the shifted one in one run of blocks whose edges are exchanged"},
    {"slice", "a slice that takes everything passes; a cut one needs its dim whole"},
    {"squeeze", "dims of size 1 go away; a longer dim that the call names is needed whole, all others pass"},
    {"stack", "a new dim; all others pass"},
    {"type_as", "element by element; only the dtype of the other operand is looked at"},
    {"unflatten", "as reshape"},
    {"whole", "every operand is needed whole"},
});

std::string RuleFunctionsTable(const RuleTable& rules) {
  std::map<std::string, std::size_t> rows;  // of the rule table, by function
  for (const auto& [name, rule] : rules.rules()) {
    if (rule.is_function()) ++rows[rule.function];
  }
  std::map<std::string, std::string> effects;
  for (const auto& [function, effect] : kRuleFunctions) effects[function] = effect;
  std::string text = "| function | rows | effect |\n|---|---|---|\n";
  for (const auto& [function, count] : rows) {
    const auto effect = effects.find(function);
    text += fmt::format("| `@{}` | {} | {} |\n", function, count, effect == effects.end() ? "" : effect->second);
  }
  return text;
}

std::string RulesPage(const RuleTable& rules) {
  std::string text =
      Head("Sharding rules", "sharding-rules") +
      "A rule says which loops (*factors*) an operation runs over and where they stand in its operands and results, as "
      "an "
      "einsum does. A rank may compute a part of an operation when one factor is cut. Everything about layouts follows "
      "from "
      "this table; propagation knows no operation by name.\n\n"
      "## Notation\n\n"
      "```\naten.linear(input, weight, bias): (*, k), (n, k), (n)? -> (*, n); reduce k; bias bias\n```\n\n"
      "- One group per tensor parameter, in the order of the operation's schema, then `->` and one group per result. A "
      "name is "
      "a factor; `*` is any number of leading dims; `?` marks an operand that may be absent.\n"
      "- A factor in operands and results passes: each rank computes its block.\n"
      "- `; reduce k`: the operation sums over `k`; a cut `k` gives a partial sum on each rank.\n"
      "- `; whole f`: every rank needs all of `f`.\n"
      "- `; sizes p`: the parameter `p` holds sizes of the result and becomes local with it.\n"
      "- `; bias p`: `p` is added once; where it is given, the reduced factors are needed whole.\n"
      "- `@name`: a function, for operations whose factors depend on arguments or shapes.\n\n"
      "An operation without a row that meets a sharded operand is refused (ASP0201), never guessed. Add rows with "
      "`autosp.register_rule(name, rule, parameters)` or `autosp-opt --rules FILE`, one `name(parameters): rule` per "
      "line, `#` "
      "starts a "
      "comment:\n\n"
      "```\nmylib.scale_rows(x, scale): (*, d), (d) -> (*, d)\n```\n\n"
      "## Functions\n\n" +
      RuleFunctionsTable(rules) +
      fmt::format("\n## The {} rows\n\n| operation | rule |\n|---|---|\n", rules.rules().size());
  for (const auto& [name, rule] : rules.rules()) {
    text += fmt::format("| `{}({})` | `{}` |\n", name, fmt::join(rule.parameters, ", "), Cell(rule.text));
  }
  return text;
}

std::string OptionsPage() {
  std::string text =
      Head("Options", "options") +
      "## Options of the passes\n\n"
      "The same names everywhere: `torch.compile(model, backend=\"autosp\", options={...})`, the section "
      "`\"autosp\"` of a DeepSpeed config, `autosp.run_passes(graph, pipeline, options)`, `autosp-opt "
      "--option name=value` and the fields of `autosp::PassOptions`. A value that is not allowed is ASP0306.\n\n"
      "| option | default | allowed | effect |\n|---|---|---|---|\n";
  for (const PassOptionInfo& option : AllPassOptions()) {
    std::string allowed;
    for (const char c : std::string_view(option.allowed)) allowed += c == '|' ? std::string("`, `") : std::string(1, c);
    text += fmt::format("| `{}` | `{}` | {} | {} |\n", option.name, option.default_value,
                        option.is_integer ? fmt::format("a whole number, `{}`", allowed) : fmt::format("`{}`", allowed),
                        Cell(option.effect));
  }
  text +=
      "\nUnder Python, `sequence_parallel_size` is by default the size of `group`, or all ranks.\n\n"
      "## Further options of the Python backend\n\n| option | default | allowed | effect |\n|---|---|---|---|\n";
#define AUTOSP_BACKEND_OPTION(name, default_value, allowed, effect) \
  text += fmt::format("| `{}` | `{}` | {} | {} |\n", #name, default_value, Cell(allowed), Cell(effect));
#include "backend_options.def"
#undef AUTOSP_BACKEND_OPTION
  return text + "\n## Flags of autosp-opt\n\n" + OptFlagsMarkdown();
}

}  // namespace

Expected<std::string> DocsPage(const std::string& page, const RuleTable& rules) {
  if (page == "passes") return PassesPage();
  if (page == "errors") return ErrorsPage();
  if (page == "options") return OptionsPage();
  if (page == "rules" || page == "sharding-rules") return RulesPage(rules);
  return MakeProblem(DiagnosticCode::kBadOption,
                     fmt::format("--docs is \"{}\", allowed is passes, sharding-rules, errors or options", page),
                     "see autosp-opt --help");
}

}  // namespace autosp
