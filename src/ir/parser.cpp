#include <autosp/ir/parser.h>

#include "text_parsers.h"

#include <fmt/format.h>

#include <limits>
#include <utility>

namespace autosp {
namespace {

class GraphParser {
 public:
  explicit GraphParser(TextCursor& cursor) : cursor_(cursor) {}

  bool Parse() {
    if (!ParseHeader()) return false;
    std::string name;
    if (!cursor_.Consume("@", "before the name of a graph") || !cursor_.ReadWord("the name of a graph", &name)) {
      return false;
    }
    graph_.set_name(std::move(name));
    if (!ParseInputs() || !ParseForm() || !cursor_.Consume("{", "before the body of a graph")) return false;
    while (!cursor_.TryConsumeWord("return")) {
      if (!ParseCall()) return false;
    }
    if (!ParseReturn() || !cursor_.Consume("}", "or \",\" after a returned value")) return false;
    return cursor_.AtEnd() || cursor_.Fail("the end of the text after a graph");
  }
  Graph TakeGraph() { return std::move(graph_); }

 private:
  // mesh, hints and divisible, each at most once, in any order; then the word "graph".
  bool ParseHeader() {
    bool mesh = false, hints = false, divisible = false;
    for (;;) {
      const std::size_t start = cursor_.position();
      const std::string word(cursor_.PeekWord());
      const auto take = [&](std::string_view section, bool* seen) {
        if (word != section || std::exchange(*seen, true)) return false;
        return cursor_.TryConsumeWord(section);
      };
      if (cursor_.TryConsumeWord("graph")) return true;
      if (take("mesh", &mesh)) {
        if (!ParseMesh()) return false;
      } else if (take("hints", &hints)) {
        if (!ParseHints()) return false;
      } else if (take("divisible", &divisible)) {
        if (!ParseDivisible()) return false;
      } else if (word == "mesh" || word == "hints" || word == "divisible") {
        return cursor_.FailAt(start, fmt::format("a second \"{}\"", word));
      } else {
        return cursor_.Fail("\"mesh\", \"hints\", \"divisible\" or \"graph\"");
      }
    }
  }

  bool ParseMesh() {
    std::string name;
    if (!cursor_.Consume("@", "before the name of a mesh") || !cursor_.ReadWord("the name of a mesh", &name) ||
        !cursor_.Consume("=", "after the name of a mesh") || !cursor_.Consume("{", "before the axes of a mesh")) {
      return false;
    }
    return cursor_.TryConsume("}") || ParseItems("the axes of a mesh", [&] {
             MeshAxis axis;
             const std::size_t start = cursor_.position();
             if (!cursor_.ReadString("a mesh axis in quotes", &axis.name) ||
                 !cursor_.Consume("=", "after a mesh axis") ||
                 !cursor_.ReadInt("the size of a mesh axis", &axis.size)) {
               return false;
             }
             if (axis.size < 1) {
               return cursor_.FailAt(start,
                                     fmt::format("mesh axis \"{}\" has size {}, not 1 or more", axis.name, axis.size));
             }
             for (const MeshAxis& other : graph_.mesh()) {
               if (other.name == axis.name) {
                 return cursor_.FailAt(start, fmt::format("mesh axis \"{}\" stands twice", axis.name));
               }
             }
             graph_.mesh().push_back(std::move(axis));
             return true;
           });
  }

  bool ParseHints() {
    if (!cursor_.Consume("{", "before the hints")) return false;
    return cursor_.TryConsume("}") || ParseItems("the hints", [&] {
             std::string symbol;
             std::int64_t value = 0;
             const std::size_t start = cursor_.position();
             if (!cursor_.ReadWord("a symbol", &symbol) || !cursor_.Consume("=", "after a symbol") ||
                 !cursor_.ReadInt("the value of a symbol", &value)) {
               return false;
             }
             if (!graph_.hints().emplace(symbol, value).second) {
               return cursor_.FailAt(start, fmt::format("symbol {} has two hints", symbol));
             }
             return true;
           });
  }

  bool ParseDivisible() {
    if (!cursor_.Consume("{", "before the facts")) return false;
    return cursor_.TryConsume("}") || ParseItems("the facts", [&] {
             Dim dim;
             std::int64_t divisor = 0;
             const std::size_t start = cursor_.position();
             if (!ParseDim(cursor_, &dim) || !cursor_.Consume("%", "before a divisor") ||
                 !cursor_.ReadInt("a divisor", &divisor)) {
               return false;
             }
             if (divisor < 1) return cursor_.FailAt(start, fmt::format("divisor {} is not 1 or more", divisor));
             graph_.divisible().emplace_back(std::move(dim), divisor);
             return true;
           });
  }

  // item ("," item)* "}"
  template <typename F>
  bool ParseItems(std::string_view what, const F& parse_item) {
    do {
      if (!parse_item()) return false;
    } while (cursor_.TryConsume(","));
    return cursor_.Consume("}", fmt::format("or \",\" in {}", what));
  }

  bool ParseInputs() {
    if (!cursor_.Consume("(", "before the inputs of a graph")) return false;
    if (cursor_.TryConsume(")")) return true;
    do {
      if (!ParseInput()) return false;
    } while (cursor_.TryConsume(","));
    return cursor_.Consume(")", "or \",\" after an input");
  }

  bool ParseInput() {
    std::string name;
    Type type;
    if (!ParseNewName("an input", &name) || !cursor_.Consume(":", "after the name of an input") ||
        !ParseType(cursor_, &type)) {
      return false;
    }
    Node* node = graph_.AddInput(std::move(name), std::move(type));
    if (cursor_.TryConsumeWord("tag")) {
      if (!cursor_.Consume("=", "after tag") || !cursor_.ReadInt("the number of a dim", &node->seq_dim)) return false;
    }
    node->tangent = cursor_.TryConsumeWord("tangent");
    return ParseMarks(node);
  }

  bool ParseForm() {
    if (!cursor_.TryConsumeWord("form")) return true;
    if (!cursor_.Consume("=", "after form")) return false;
    const std::string_view word = cursor_.PeekWord();
    const auto form = FormFromString(word);
    if (!form) {
      return cursor_.Fail("a form (captured, normalized, sharded, resharded, partitioned, lowered, joint or planned)");
    }
    cursor_.Advance(word.size());
    graph_.set_form(*form);
    return true;
  }

  // %n = op(args) {k=v, ...} : type checkpoint loc(...)
  bool ParseCall() {
    std::string name, op;
    if (cursor_.Peek() != '%') return cursor_.Fail("\"%\" before the name of a value, or \"return\"");
    if (!ParseNewName("a value", &name) || !cursor_.Consume("=", "after the name of a value") ||
        !cursor_.ReadWord("the name of an operation", &op) || !cursor_.Consume("(", "after the name of an operation")) {
      return false;
    }
    std::vector<Argument> args;
    if (!cursor_.TryConsume(")")) {
      if (!ParseArguments(&args) || !cursor_.Consume(")", "or \",\" after an argument")) return false;
    }
    std::vector<std::pair<std::string, Argument>> attributes;
    if (cursor_.TryConsume("{") && !ParseAttributes(&attributes)) return false;
    Type type;
    if (!cursor_.Consume(":", "before the type of a value") || !ParseType(cursor_, &type)) return false;
    Node* node = graph_.AddCall(std::move(name), std::move(op), std::move(args), std::move(type));
    node->attributes = std::move(attributes);
    return ParseMarks(node);
  }

  bool ParseArguments(std::vector<Argument>* args) {
    do {
      if (!ParseArgument(cursor_, graph_, &args->emplace_back())) return false;
    } while (cursor_.TryConsume(","));
    return true;
  }

  bool ParseAttributes(std::vector<std::pair<std::string, Argument>>* attributes) {
    return ParseItems("the named arguments", [&] {
      std::string key;
      Argument value;
      const std::size_t start = cursor_.position();
      if (!cursor_.ReadWord("the name of an argument", &key)) return false;
      for (const auto& [other, ignored] : *attributes) {
        if (other == key) return cursor_.FailAt(start, fmt::format("argument {} stands twice", key));
      }
      if (!cursor_.Consume("=", "after the name of an argument") || !ParseArgument(cursor_, graph_, &value)) {
        return false;
      }
      attributes->emplace_back(std::move(key), std::move(value));
      return true;
    });
  }

  bool ParseReturn() {
    std::vector<Argument> values;
    const auto at_end = [&] { return cursor_.Peek() == '}'; };
    if (!at_end() && cursor_.PeekWord() != "backward" && !ParseArguments(&values)) return false;
    if (cursor_.TryConsumeWord("backward")) {
      graph_.set_forward_outputs(static_cast<std::int64_t>(values.size()));
      if (!at_end() && !ParseArguments(&values)) return false;
    }
    graph_.SetOutput(std::move(values));
    return true;
  }

  // "%" name, not yet taken.
  bool ParseNewName(std::string_view what, std::string* name) {
    const std::size_t start = cursor_.position();
    if (!cursor_.Consume("%", fmt::format("before the name of {}", what)) ||
        !cursor_.ReadName("a name after \"%\"", name)) {
      return false;
    }
    if (graph_.Find(*name)) return cursor_.FailAt(start, fmt::format("%{} is defined twice", *name));
    return true;
  }

  // ["must_keep" | "must_recompute" | "run_once"] ["written"] ["checkpoint"] ["loc" "(" ... ")"]
  bool ParseMarks(Node* node) {
    if (cursor_.TryConsumeWord("must_keep")) {
      node->choice = Node::Choice::kKeep;
    } else if (cursor_.TryConsumeWord("must_recompute")) {
      node->choice = Node::Choice::kRecompute;
    } else if (cursor_.TryConsumeWord("run_once")) {
      node->choice = Node::Choice::kOnce;
    }
    node->written = cursor_.TryConsumeWord("written");
    if (cursor_.TryConsumeWord("checkpoint")) node->recompute = true;
    if (!cursor_.TryConsumeWord("loc")) return true;
    if (!cursor_.Consume("(", "after loc")) return false;
    SourceLocation& location = node->provenance.location;
    if (cursor_.Peek() == '"') {
      std::int64_t line = 0;
      if (!cursor_.ReadString("a file", &location.file) || !cursor_.Consume(":", "after a file")) return false;
      const std::size_t start = cursor_.position();
      if (!cursor_.ReadInt("a line", &line)) return false;
      if (line < std::numeric_limits<int>::min() || line > std::numeric_limits<int>::max()) {
        return cursor_.FailAt(start, fmt::format("line {} is out of range", line));
      }
      location.line = static_cast<int>(line);
      if (cursor_.TryConsumeWord("in") && !cursor_.ReadString("a function in quotes", &location.function)) return false;
      if (!cursor_.TryConsume(",")) return cursor_.Consume(")", "or \",\" in loc");
    }
    if (cursor_.TryConsumeWord("module")) {
      if (!cursor_.ReadString("a module path in quotes", &node->provenance.module_path)) return false;
      if (!cursor_.TryConsume(",")) return cursor_.Consume(")", "or \",\" in loc");
    }
    if (!cursor_.TryConsumeWord("fx")) return cursor_.Fail("\"module\" or \"fx\" in loc");
    return cursor_.ReadString("a name in quotes", &node->provenance.fx_name) &&
           cursor_.Consume(")", "at the end of loc");
  }

  TextCursor& cursor_;
  Graph graph_;
};

}  // namespace

Expected<Graph> Parse(std::string_view text, std::string_view source_name) {
  TextCursor cursor(text, source_name);
  GraphParser parser(cursor);
  if (!parser.Parse()) return cursor.TakeError();
  return parser.TakeGraph();
}

}  // namespace autosp
