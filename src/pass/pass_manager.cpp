#include <autosp/pass/pass_manager.h>

#include <autosp/ir/hash.h>
#include <autosp/ir/printer.h>
#include <autosp/ir/verifier.h>
#include <autosp/pass/problem.h>
#include <autosp/pass/reproducer.h>
#include <autosp/pass/suggest.h>
#include <autosp/sharding/op_rules.h>

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

namespace autosp {
namespace {

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Command lines may write a pass name with underscores.
std::string WithDashes(std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

Status WithNote(const Status& status, const std::string& note) {
  std::vector<Diagnostic> diagnostics = status.diagnostics();
  for (Diagnostic& diagnostic : diagnostics) diagnostic.notes.push_back(note);
  return Status(std::move(diagnostics));
}

// Rows of `rules` that the built-in table does not have, as text that RuleTable::AddText reads.
std::string UserRules(const RuleTable* rules) {
  std::string text;
  if (rules == nullptr) return text;
  const auto built_in = RuleTable::BuiltIn();
  for (const auto& [name, rule] : rules->rules()) {
    const OpRule* known = built_in.ok() ? built_in->Find(name) : nullptr;
    if (known != nullptr && known->text == rule.text && known->parameters == rule.parameters) continue;
    text += fmt::format("{}({}): {}\n", name, fmt::join(rule.parameters, ", "), rule.text);
  }
  return text;
}

}  // namespace

PassManager::PassManager(std::vector<std::unique_ptr<Pass>> passes, PassManagerOptions options)
    : passes_(std::move(passes)), options_(std::move(options)) {
  for (std::string& name : options_.disabled) name = WithDashes(name);
  options_.stop_after = WithDashes(options_.stop_after);
}

Status PassManager::Run(Graph& graph, PassContext& context) {
  timings_.clear();
  AUTOSP_ASSIGN_OR_RETURN(const Schedule schedule, MakeSchedule());
  AUTOSP_RETURN_IF_ERROR(CheckOrder(graph, schedule));
  if (options_.verify_each) {
    if (const Status status = Verify(graph); !status.ok()) {
      return WithNote(status, fmt::format("found before the first pass, in form {}", ToString(graph.form())));
    }
    hash_ = Hash(graph);
  }
  for (std::size_t index = 0; index < schedule.size(); ++index) {
    AUTOSP_RETURN_IF_ERROR(RunPass(graph, context, schedule, index));
  }
  return Status::Ok();
}

Expected<PassManager::Schedule> PassManager::MakeSchedule() const {
  std::vector<std::string> names;
  for (const auto& pass : passes_) names.emplace_back(pass->name());
  Status status;
  const auto check_name = [&](const std::string& option, const std::string& name) {
    if (std::find(names.begin(), names.end(), name) != names.end()) return;
    status.Add(MakeProblem(DiagnosticCode::kUnknownPass,
                           fmt::format("{} names the pass \"{}\", which is not in this pipeline{}", option, name,
                                       DidYouMean(name, names))));
  };
  for (const std::string& name : options_.disabled) check_name("disabled", name);
  if (!options_.stop_after.empty()) check_name("stop_after", options_.stop_after);

  Schedule schedule;
  for (const auto& pass : passes_) {
    const bool is_disabled =
        std::find(options_.disabled.begin(), options_.disabled.end(), pass->name()) != options_.disabled.end();
    if (is_disabled && pass->form_in() != pass->form_out()) {
      status.Add(MakeProblem(
          DiagnosticCode::kPassOrder,
          fmt::format("the pass \"{}\" cannot be disabled: it takes the form {} to {}, and later passes need that",
                      pass->name(), ToString(pass->form_in()), ToString(pass->form_out())),
          "use stop_after (autosp-opt --stop-after=) to end before it"));
    }
    if (!is_disabled) schedule.push_back(pass.get());
    if (pass->name() == options_.stop_after) break;
  }
  if (!status.ok()) return status;
  return schedule;
}

Status PassManager::CheckOrder(const Graph& graph, const Schedule& schedule) const {
  Status status;
  Form form = graph.form();
  std::string giver = fmt::format("the graph @{} is in", graph.name());
  for (const Pass* pass : schedule) {
    if (!pass->Accepts(form)) {
      status.Add(MakeProblem(DiagnosticCode::kPassOrder,
                             fmt::format("the pass \"{}\" takes the form {}, but {} form {}", pass->name(),
                                         ToString(pass->form_in()), giver, ToString(form))));
      form = pass->form_in();  // As if it had fitted, so that one misplaced pass is reported once.
    }
    form = pass->FormAfter(form);
    giver = fmt::format("\"{}\" before it gives", pass->name());
  }
  return status;
}

Status PassManager::RunPass(Graph& graph, PassContext& context, const Schedule& schedule, std::size_t index) {
  const Pass& pass = *schedule[index];
  Graph before = graph.Clone();
  const std::size_t remarks_before = context.remarks.size();

  PassTiming timing{.pass = pass.name()};
  const auto start = std::chrono::steady_clock::now();
  const Expected<bool> changed = pass.Run(graph, context);
  timing.seconds = SecondsSince(start);

  Status status = changed.ok() ? Status::Ok() : changed.status();
  if (status.ok() && options_.verify_each) {
    const auto verify_start = std::chrono::steady_clock::now();
    status = CheckResult(before, graph, pass, *changed);
    timing.verify_seconds = SecondsSince(verify_start);
  }
  if (!status.ok()) {
    AddReproducer(status, before, context, schedule, index);
    graph = std::move(before);
    context.remarks.resize(remarks_before);
    return status;
  }
  timing.changed = *changed;
  timing.nodes = graph.size();
  timings_.push_back(timing);
  if (before.form() == Form::kNormalized && graph.form() != Form::kNormalized) {
    context.whole = std::make_shared<const Graph>(std::move(before));
  }
  if (observer_) observer_(pass, graph, *changed);
  return Status::Ok();
}

Status PassManager::CheckResult(const Graph& before, const Graph& after, const Pass& pass, bool changed) {
  const Form promised = pass.FormAfter(before.form());
  if (after.form() != promised) {
    return MakeProblem(DiagnosticCode::kInvalidGraph,
                       fmt::format("the pass \"{}\" left the graph in form {}, its contract is {}", pass.name(),
                                   ToString(after.form()), ToString(promised)));
  }
  if (const Status status = Verify(after); !status.ok()) {
    return WithNote(status,
                    fmt::format("found after the pass \"{}\", in form {}", pass.name(), ToString(after.form())));
  }
  const std::uint64_t hash_before = hash_;
  hash_ = Hash(after);
  std::uint64_t hash_after = hash_;
  if (!changed && after.form() != before.form()) {
    // The form is part of the text, but setting it is not a change by itself.
    Graph same_form = after.Clone();
    same_form.set_form(before.form());
    hash_after = Hash(same_form);
  }
  if (changed == (hash_before != hash_after)) return Status::Ok();
  if (changed) {
    return MakeProblem(DiagnosticCode::kChangedBit,
                       fmt::format("the pass \"{}\" reports a change, but the hash of the graph is still {:016x}",
                                   pass.name(), hash_after));
  }
  Diagnostic lie = MakeProblem(
      DiagnosticCode::kChangedBit,
      fmt::format("the pass \"{}\" reports no change, but the hash of the graph went from {:016x} to {:016x}",
                  pass.name(), hash_before, hash_after));
  const auto [old_line, new_line] = FirstDifference(before, after);
  lie.notes.push_back(fmt::format("the first line that differs: `{}` became `{}`", old_line, new_line));
  return lie;
}

void PassManager::AddReproducer(Status& status, const Graph& before, const PassContext& context,
                                const Schedule& schedule, std::size_t index) const {
  if (options_.reproducer_dir.empty()) return;
  std::vector<std::string> rest;
  for (std::size_t i = index; i < schedule.size(); ++i) rest.emplace_back(schedule[i]->name());
  const Reproducer reproducer{.pipeline = fmt::format("{}", fmt::join(rest, ",")),
                              .options = context.options,
                              .verify_each = options_.verify_each,
                              .rules = UserRules(context.rules),
                              .error = status.ToString(),
                              .graph = Print(before)};
  const Expected<std::string> path = WriteReproducer(reproducer, options_.reproducer_dir);
  const std::string note = path.ok() ? fmt::format("reproducer: autosp-opt --run-reproducer {}", *path)
                                     : fmt::format("no reproducer: {}", path.status().diagnostics().front().message);
  std::vector<Diagnostic> diagnostics = status.diagnostics();
  diagnostics.back().notes.push_back(note);
  status = Status(std::move(diagnostics));
}

}  // namespace autosp
