#include "mutation.h"

#include <autosp/ir/parser.h>
#include <autosp/ir/printer.h>
#include <autosp/ir/verifier.h>

#include <algorithm>
#include <optional>
#include <sstream>

namespace autosp::test {
namespace {

bool IsCollective(const Node& node) { return node.is_call() && node.op.starts_with("autosp."); }

class Mutator {
 public:
  Mutator(const Graph& graph, const std::function<void(Graph, const std::string&)>& visit)
      : graph_(graph), visit_(visit) {
    for (const auto& node : graph.nodes()) {
      if (node->is_input() && node->type.kind == Type::Kind::kInt) numbers_.push_back(node->name);
    }
  }

  void Run() {
    for (const auto& node : graph_.nodes()) {
      if (!node->is_call()) continue;
      if (IsCollective(*node)) {
        MutateCollective(*node);
      } else {
        MutateNumbers(*node);
      }
      MutateTypes(*node);
    }
  }

 private:
  void Change(const Node& node, const std::string& what, const std::function<void(Graph&, Node&)>& change) {
    Graph mutant = graph_.Clone();
    change(mutant, *mutant.Find(node.name));
    visit_(std::move(mutant), "%" + node.name + " = " + node.op + ": " + what);
  }

  void MutateCollective(const Node& node) {
    Change(node, "removed", [](Graph& graph, Node& it) {
      graph.ReplaceUses(&it, it.args[0].node());
      graph.RemoveIf([&](const Node& each) { return &each == &it; });
    });
    Change(node, "done twice", [](Graph& graph, Node& it) {
      Node* again = graph.InsertAfter(&it, it.name + "_again", it.op, {&it}, it.type);
      again->attributes = it.attributes;
      graph.ReplaceUses(&it, again, again);
    });
    for (const char* op : {"autosp.shard_slice", "autosp.all_gather", "autosp.all_reduce", "autosp.reduce_scatter",
                           "autosp.mask_padding"}) {
      if (node.op != op) Change(node, std::string("becomes ") + op, [&](Graph&, Node& it) { it.op = op; });
    }
    MutateAttributes(node);
    SwapOperands(node);
    SwapLines(node);
  }

  void MutateAttributes(const Node& node) {
    for (const auto& [name, value] : node.attributes) {
      const std::string attribute = name;
      if (attribute == "group") {
        Change(node, "group", [](Graph&, Node& it) { it.set_attribute("group", Argument::Group("dp")); });
      } else if (attribute == "reduce") {
        for (const char* reduce : {"sum", "max", "min"}) {
          if (*value.get<std::string>() == reduce) continue;
          Change(node, std::string("reduce by ") + reduce,
                 [&](Graph&, Node& it) { it.set_attribute("reduce", reduce); });
        }
      } else {
        ForEachOther(value, [&](const Argument& other, const std::string& text) {
          Change(node, attribute + " is " + text,
                 [&](Graph& graph, Node& it) { it.set_attribute(attribute, In(graph, other)); });
        });
      }
      Change(node, "without " + attribute, [&](Graph&, Node& it) { it.remove_attribute(attribute); });
    }
    if (node.op != "autosp.all_to_all") return;
    Change(node, "to and from swapped", [](Graph&, Node& it) {
      for (const char* part : {"dim", "major", "length", "minor"}) {
        const Argument from = *it.attribute(part);
        it.set_attribute(part, *it.attribute(std::string("to_") + part));
        it.set_attribute(std::string("to_") + part, from);
      }
    });
  }

  // The operands of two collectives change places, and so do all readers of their results.
  void SwapOperands(const Node& node) {
    for (const auto& other : graph_.nodes()) {
      if (other.get() == &node) break;
      if (!IsCollective(*other)) continue;
      const std::string name = other->name;
      if (other->args[0].node()->type == node.args[0].node()->type) {
        Change(node, "operand swapped with %" + name,
               [&](Graph& graph, Node& it) { std::swap(it.args[0], graph.Find(name)->args[0]); });
        Change(node, "operand of %" + name, [&](Graph& graph, Node& it) { it.args[0] = graph.Find(name)->args[0]; });
      }
      if (other->type == node.type) {
        Change(node, "read in place of %" + name,
               [&](Graph& graph, Node& it) { graph.ReplaceUses(&it, graph.Find(name)); });
      }
      if (other->attributes.size() == node.attributes.size() && other->op == node.op) {
        Change(node, "attributes swapped with %" + name,
               [&](Graph& graph, Node& it) { std::swap(it.attributes, graph.Find(name)->attributes); });
      }
    }
  }

  void SwapLines(const Node& node) {
    const std::string text = Print(graph_);
    std::vector<std::string> lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    const auto at = std::find_if(lines.begin(), lines.end(),
                                 [&](const std::string& line) { return line.starts_with("  %" + node.name + " = "); });
    if (at == lines.end() || !(at - 1)->starts_with("  %")) return;
    if ((at - 1)->find(" = ") == std::string::npos) return;
    std::iter_swap(at, at - 1);
    std::string swapped;
    for (const std::string& line : lines) swapped += line + "\n";
    Expected<Graph> graph = Parse(swapped);
    visit_(graph.ok() ? std::move(*graph) : Graph(), "%" + node.name + " = " + node.op + ": moved up by one");
  }

  // Numbers that could stand in the place of one: its neighbours, and what other sizes of the graph are.
  void ForEachOther(const Argument& value,
                    const std::function<void(const Argument&, const std::string&)>& visit) const {
    if (const auto* number = value.get<std::int64_t>()) {
      visit(*number + 1, std::to_string(*number + 1));
      if (*number != 0) visit(*number - 1, std::to_string(*number - 1));
      for (const std::string& name : numbers_) visit(Argument(graph_.Find(name)), "%" + name);
    } else if (const auto* real = value.get<double>()) {
      visit(*real + 0.5, std::to_string(*real + 0.5));
    } else if (const Node* node = value.node(); node != nullptr && node->type.kind == Type::Kind::kInt) {
      visit(2, "2");
      for (const auto& other : graph_.nodes()) {
        if (other.get() == node) break;
        if (other->type.kind == Type::Kind::kInt && other->type.number != node->type.number) {
          visit(Argument(other.get()), "%" + other->name);
        }
      }
    }
  }

  static Argument In(Graph& graph, const Argument& argument) {
    return argument.node() == nullptr ? argument : Argument(graph.Find(argument.node()->name));
  }

  // Each number of each argument, found again in the copy by its path: position (or attribute), then entry of a list.
  void MutateNumbers(const Node& node) {
    const auto mutate = [&](const Argument& argument, const std::string& path,
                            const std::function<Argument&(Node&)>& find) {
      ForEachOther(argument, [&](const Argument& other, const std::string& text) {
        Change(node, path + " is " + text, [&](Graph& graph, Node& it) { find(it) = In(graph, other); });
      });
      if (const Argument::List* list = argument.list()) {
        for (std::size_t i = 0; i < list->size(); ++i) {
          ForEachOther((*list)[i], [&](const Argument& other, const std::string& text) {
            Change(node, path + "[" + std::to_string(i) + "] is " + text,
                   [&](Graph& graph, Node& it) { (*find(it).list())[i] = In(graph, other); });
          });
        }
      }
    };
    for (std::size_t i = 0; i < node.args.size(); ++i) {
      mutate(node.args[i], "argument " + std::to_string(i), [i](Node& it) -> Argument& { return it.args[i]; });
    }
    for (std::size_t i = 0; i < node.attributes.size(); ++i) {
      mutate(node.attributes[i].second, node.attributes[i].first,
             [i](Node& it) -> Argument& { return it.attributes[i].second; });
    }
  }

  void MutateTypes(const Node& node) {
    const auto mutate = [&](const Type& type, const std::function<Type&(Node&)>& find) {
      for (std::size_t dim = 0; dim < type.shape.size(); ++dim) {
        std::vector<Dim> others = {type.shape[dim] + 1, type.shape[dim] * 2};
        if (type.shape[dim].constant().value_or(2) > 1) others.push_back(type.shape[dim] - 1);
        for (const Dim& other : others) {
          Change(node, "size " + std::to_string(dim) + " is " + other.ToString(),
                 [&](Graph&, Node& it) { find(it).shape[dim] = other; });
        }
      }
    };
    mutate(node.type, [](Node& it) -> Type& { return it.type; });
    for (std::size_t i = 0; i < node.type.elements.size(); ++i) {
      mutate(node.type.elements[i], [i](Node& it) -> Type& { return it.type.elements[i]; });
    }
    if (node.type.kind == Type::Kind::kInt) {
      Change(node, "number is one more", [](Graph&, Node& it) { it.type.number = it.type.number + 1; });
    }
  }

  const Graph& graph_;
  const std::function<void(Graph, const std::string&)>& visit_;
  std::vector<std::string> numbers_;
};

bool IsCaught(Graph& mutant, const Program& program, const Partitioned& original) {
  if (mutant.output() == nullptr || !Verify(mutant).ok()) return true;
  CompileOptions options;
  options.pipeline = "verify-partitioned";
  options.pass = program.options;
  options.whole = original.whole;
  return !compile(mutant, options).ok();
}

}  // namespace

void ForEachMutant(const Graph& partitioned, const std::function<void(Graph, const std::string&)>& visit) {
  Mutator(partitioned, visit).Run();
}

MutationCount& MutationCount::operator+=(const MutationCount& other) {
  mutants += other.mutants;
  caught += other.caught;
  changed += other.changed;
  escaped += other.escaped;
  escapes += other.escapes;
  if (first_escape.empty()) first_escape = other.first_escape;
  return *this;
}

MutationCount CheckMutants(const Program& given, bool run_all) {
  MutationCount count;
  Program program = Copy(given);
  if (Prepare(program)) return count;
  const Expected<Partitioned> original = PartitionProgram(program, "autosp-no-lower");
  if (!original.ok()) return count;
  ForEachMutant(original->graph, [&](Graph mutant, const std::string& what) {
    ++count.mutants;
    const bool caught = IsCaught(mutant, program, *original);
    count.caught += caught ? 1 : 0;
    if (caught && !run_all) return;
    const bool unreadable = mutant.output() == nullptr || !Verify(mutant).ok();
    const Verdict verdict =
        unreadable ? Verdict{Outcome::kFailed, "unreadable", ""} : CompareProgram(program, mutant, original->layouts);
    if (verdict.outcome != Outcome::kFailed) return;
    ++count.changed;
    if (caught) return;
    ++count.escaped;
    count.escapes += "seed " + std::to_string(program.seed) + ": " + what + "\n  " + verdict.text.substr(0, 200) + "\n";
    if (count.first_escape.empty()) {
      count.first_escape = what + "\n" + verdict.text + program.Text() + Print(mutant);
    }
  });
  return count;
}

}  // namespace autosp::test
