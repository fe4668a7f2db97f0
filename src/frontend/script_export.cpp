#include <autosp/frontend/torchscript.h>

#include "torch_constants.h"

#include <autosp/ir/printer.h>

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/jit_type.h>
#include <torch/csrc/jit/api/compilation_unit.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <exception>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>

namespace autosp {
namespace frontend {
namespace {

using torch::jit::Symbol;
using JitGraph = torch::jit::Graph;
using JitValue = torch::jit::Value;

// Thrown inside this file only.
struct Refused {
  Diagnostic diagnostic;
};

std::vector<std::string> SplitPath(const std::string& path) {
  std::vector<std::string> parts(1);
  for (const char c : path) {
    if (c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

// Modules with the wanted attributes and no code.
class ModuleTree {
 public:
  ModuleTree() : root_(Empty()) {}

  void Add(const ScriptInput& input) {
    torch::jit::Module at = root_;
    const std::vector<std::string> parts = SplitPath(input.path);
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      if (!at.hasattr(parts[i])) at.register_module(parts[i], Empty());
      at = at.attr(parts[i]).toModule();
    }
    if (input.is_parameter) {
      at.register_parameter(parts.back(), input.value, false);
    } else {
      at.register_buffer(parts.back(), input.value);
    }
  }

  const torch::jit::Module& root() const { return root_; }

 private:
  torch::jit::Module Empty() {
    return torch::jit::Module(c10::QualifiedName("__torch__.autosp.Module"), unit_, /*shouldMangle=*/true);
  }

  std::shared_ptr<torch::jit::CompilationUnit> unit_ = std::make_shared<torch::jit::CompilationUnit>();
  torch::jit::Module root_;
};

class Exporter {
 public:
  Exporter(const ScriptGraph& script, const ScriptExportOptions& options)
      : script_(script), groups_(options.groups), graph_(std::make_shared<JitGraph>()) {
    if (groups_.empty()) groups_["sp"] = "sp";
  }

  Expected<torch::jit::Module> Run() {
    try {
      return Build();
    } catch (Refused& refused) {
      return std::move(refused.diagnostic);
    } catch (const std::exception& error) {
      const std::string text = error.what();
      return Diagnostic{DiagnosticCode::kInvalidGraph,
                        "the graph @" + script_.graph.name() + " has no TorchScript form",
                        {},
                        "",
                        {text.substr(0, text.find('\n'))}};
    }
  }

 private:
  using Results = std::vector<JitValue*>;

  [[noreturn]] static void Refuse(DiagnosticCode code, const Node& node, std::string message) {
    throw Refused{
        Diagnostic{code, std::move(message), node.provenance.location, node.is_output() ? "" : Describe(node)}};
  }

  torch::jit::Module Build() {
    ModuleTree tree;
    for (const ScriptInput& input : script_.inputs) {
      if (input.argument < 0) tree.Add(input);
    }
    const torch::jit::Module module = tree.root();
    AddInputs(module);
    AddChecks();
    for (const auto& node : script_.graph.nodes()) {
      if (node->is_call()) ExportCall(*node);
      if (node->is_output()) ExportOutput(*node);
    }
    graph_->lint();
    const auto unit = module._ivalue()->compilation_unit();
    const c10::QualifiedName name(*module.type()->name(), "forward");
    module.type()->addMethod(unit->create_function(name, graph_));
    return module;
  }

  void AddInputs(const torch::jit::Module& module) {
    JitValue* self = graph_->addInput("self")->setType(module.type());
    std::vector<JitValue*> arguments;
    std::vector<const ScriptInput*> by_position(static_cast<std::size_t>(script_.arguments), nullptr);
    for (const ScriptInput& input : script_.inputs) {
      if (input.argument >= 0) by_position[static_cast<std::size_t>(input.argument)] = &input;
    }
    for (std::size_t i = 0; i < by_position.size(); ++i) {
      const bool used = by_position[i] != nullptr;
      JitValue* value = graph_->addInput(used ? by_position[i]->name : "unused_" + std::to_string(i));
      value->setType(used ? c10::TypePtr(c10::TensorType::get()) : c10::TypePtr(c10::AnyType::get()));
      arguments.push_back(value);
    }
    for (const ScriptInput& input : script_.inputs) {
      const Node* node = script_.graph.Find(input.name);
      if (node == nullptr) continue;  // A pass found that nobody reads it.
      JitValue* value = self;
      if (input.argument >= 0) {
        value = arguments[static_cast<std::size_t>(input.argument)];
        arguments_.push_back({node, value});
      } else {
        for (const std::string& part : SplitPath(input.path)) value = graph_->insertGetAttr(value, part);
        value->setType(c10::TensorType::get());
      }
      values_[node] = {value};
    }
  }

  // --- what the graph was made for

  void AddChecks() {
    for (const auto& [node, value] : arguments_) {
      for (int dim = 0; dim < node->type.rank(); ++dim) {
        const auto symbol = node->type.shape[static_cast<std::size_t>(dim)].symbol();
        if (symbol && !symbols_.contains(*symbol)) symbols_[*symbol] = SizeOf(value, dim);
      }
    }
    for (const auto& [node, value] : arguments_) {
      Results expected;
      for (const Dim& dim : node->type.shape) expected.push_back(Emit(dim));
      JitValue* wanted = graph_->insertNode(graph_->createList(c10::IntType::get(), expected))->output();
      JitValue* sizes = graph_->insert(Symbol::fromQualString("aten::size"), {value});
      Require(graph_->insert(Symbol::fromQualString("aten::eq"), {sizes, wanted}),
              "autosp: the argument " + node->name + " must be " + Print(node->type) +
                  ", as it was when the program was compiled");
    }
    for (const auto& [dim, divisor] : script_.graph.divisible()) {
      JitValue* rest = graph_->insert(Symbol::fromQualString("aten::remainder"), {Emit(dim), divisor});
      Require(graph_->insert(Symbol::fromQualString("aten::eq"), {rest, std::int64_t{0}}),
              "autosp: the length " + dim.ToString() + " must be a multiple of " + std::to_string(divisor) +
                  ", as it was when the program was compiled");
    }
    if (script_.longest > 0) {
      for (const auto& [name, value] : symbols_) {
        Require(graph_->insert(Symbol::fromQualString("aten::le"), {value, script_.longest}),
                "autosp: the program was compiled for lengths up to " + std::to_string(script_.longest));
      }
    }
  }

  void Require(JitValue* condition, const std::string& otherwise) {
    torch::jit::Node* branch = graph_->insertNode(graph_->create(c10::prim::If, {condition}, 0));
    branch->addBlock();
    torch::jit::Block* wrong = branch->addBlock();
    const torch::jit::WithInsertPoint inside(wrong);
    JitValue* message = graph_->insertConstant(otherwise);
    JitValue* none = graph_->insertConstant(c10::IValue());
    graph_->insertNode(graph_->create(c10::prim::RaiseException, {message, none}, 0));
  }

  JitValue* SizeOf(JitValue* tensor, std::int64_t dim) {
    return graph_->insert(Symbol::fromQualString("aten::size"), {tensor, dim});
  }

  // --- integers

  JitValue* Emit(const Dim& dim) {
    if (const auto number = dim.constant()) return graph_->insertConstant(*number);
    JitValue* sum = nullptr;
    for (const Dim::Term& term : dim.terms()) {
      JitValue* product = graph_->insertConstant(term.coefficient);
      for (const Dim::Atom& atom : term.atoms) product = Binary("aten::mul", product, EmitAtom(atom));
      sum = sum == nullptr ? product : Binary("aten::add", sum, product);
    }
    return sum;
  }

  JitValue* EmitAtom(const Dim::Atom& atom) {
    if (atom.is_symbol()) {
      const auto found = symbols_.find(atom.symbol);
      if (found == symbols_.end()) {
        throw Refused{Diagnostic{DiagnosticCode::kUnsupportedSymbol, "no argument has the size " + atom.symbol}};
      }
      return found->second;
    }
    JitValue *a = Emit(*atom.lhs), *b = Emit(*atom.rhs);
    switch (atom.call) {
      case Dim::Call::kFloorDiv:
        return Binary("aten::floordiv", a, b);
      case Dim::Call::kCeilDiv: {
        JitValue* negative = graph_->insert(Symbol::fromQualString("aten::neg"), {a});
        return graph_->insert(Symbol::fromQualString("aten::neg"), {Binary("aten::floordiv", negative, b)});
      }
      case Dim::Call::kMod:
        return Binary("aten::remainder", a, b);
      case Dim::Call::kMax:
        return Binary("prim::max", a, b);
      case Dim::Call::kMin:
        return Binary("prim::min", a, b);
      case Dim::Call::kAdd:
        return Binary("aten::add", a, b);
      case Dim::Call::kMul:
        break;
    }
    return Binary("aten::mul", a, b);
  }

  JitValue* Binary(const char* op, JitValue* a, JitValue* b) {
    return graph_->insert(Symbol::fromQualString(op), {a, b});
  }

  // --- calls

  void ExportCall(const Node& node) {
    if (node.op == "builtin.getitem") return ExportGetItem(node);
    // An integer is known by its type, wherever it comes from.
    if (node.type.kind == Type::Kind::kInt && node.op != "aten.sym_size.int") {
      values_[&node] = {Emit(node.type.number)};
      return;
    }
    if (node.op == "aten.sym_size.int") {
      const std::int64_t* dim = node.args[1].get<std::int64_t>();
      values_[&node] = {SizeOf(ValueOf(*node.args[0].node()), dim == nullptr ? 0 : *dim)};
      return;
    }
    const c10::FunctionSchema& schema = SchemaOf(node);
    std::vector<JitValue*> inputs;
    const auto& formals = schema.arguments();
    for (std::size_t i = 0; i < formals.size(); ++i) {
      const Argument* given = i < node.args.size() ? &node.args[i] : node.attribute(formals[i].name());
      if (given != nullptr) {
        inputs.push_back(ToValue(node, *given, formals[i].type(), formals[i].N().value_or(1)));
      } else if (formals[i].default_value()) {
        inputs.push_back(graph_->insertConstant(*formals[i].default_value()));
      } else {
        Refuse(DiagnosticCode::kInvalidGraph, node,
               "argument \"" + formals[i].name() + "\" of " + node.op + " is missing");
      }
    }
    torch::jit::Node* call =
        graph_->insertNode(graph_->create(Symbol::fromQualString(schema.name()), inputs, schema.returns().size()));
    Results results;
    for (std::size_t i = 0; i < schema.returns().size(); ++i) {
      results.push_back(call->output(i)->setType(schema.returns()[i].type()));
    }
    if (results.size() == 1 && node.type.kind == Type::Kind::kTuple) {
      torch::jit::Node* unpack = graph_->insertNode(graph_->createListUnpack(results[0], node.type.elements.size()));
      results.assign(unpack->outputs().begin(), unpack->outputs().end());
    }
    values_[&node] = std::move(results);
  }

  void ExportGetItem(const Node& node) {
    const Node* tuple = node.args[0].node();
    const std::int64_t* index = node.args[1].get<std::int64_t>();
    const auto found = tuple == nullptr ? values_.end() : values_.find(tuple);
    if (found == values_.end() || index == nullptr) {
      Refuse(DiagnosticCode::kInvalidGraph, node, "builtin.getitem wants a tuple and a number");
    }
    const std::int64_t size = static_cast<std::int64_t>(found->second.size());
    const std::int64_t position = *index < 0 ? *index + size : *index;
    if (position < 0 || position >= size) {
      Refuse(DiagnosticCode::kInvalidGraph, node, "element " + std::to_string(*index) + " of " + std::to_string(size));
    }
    values_[&node] = {found->second[static_cast<std::size_t>(position)]};
  }

  // "aten.add.Tensor" with a number is add.Scalar to TorchScript.
  static const c10::FunctionSchema& SchemaOf(const Node& node) {
    const std::size_t first = node.op.find('.'), second = node.op.find('.', first + 1);
    std::string name, overload;
    if (first != std::string::npos) {
      name = node.op.substr(0, first) + "::" + node.op.substr(first + 1, second - first - 1);
      overload = second == std::string::npos ? "" : node.op.substr(second + 1);
      if (overload == "default") overload.clear();
      const bool number =
          node.args.size() > 1 && (node.args[1].node() == nullptr || !node.args[1].node()->type.is_tensor());
      if (overload == "Tensor" && number && c10::Dispatcher::singleton().findSchema({name, "Scalar"}))
        overload = "Scalar";
    }
    const auto handle = c10::Dispatcher::singleton().findSchema({name, overload});
    if (!handle) {
      Refuse(DiagnosticCode::kUnsupportedArgument, node, "the operation " + node.op + " has no TorchScript form");
    }
    return handle->schema();
  }

  JitValue* ValueOf(const Node& node) const {
    const auto found = values_.find(&node);
    if (found == values_.end() || found->second.size() != 1) {
      Refuse(DiagnosticCode::kUnsupportedArgument, node, "%" + node.name + " is read as one value, which it is not");
    }
    return found->second.front();
  }

  JitValue* ToValue(const Node& node, const Argument& argument, const c10::TypePtr& type, std::int64_t count) {
    if (const Node* read = argument.node()) return ValueOf(*read);
    c10::TypePtr plain = type;
    if (const auto optional = plain->cast<c10::OptionalType>()) plain = optional->getElementType();
    if (argument.is_none()) return graph_->insertConstant(c10::IValue());
    if (const auto list = plain->cast<c10::ListType>()) {
      std::vector<JitValue*> elements;
      if (argument.list() == nullptr) {
        for (std::int64_t i = 0; i < count; ++i) {
          elements.push_back(ToValue(node, argument, list->getElementType(), 1));
        }
      } else {
        for (const Argument& element : *argument.list()) {
          elements.push_back(ToValue(node, element, list->getElementType(), 1));
        }
      }
      // A list of optional tensors may hold None.
      return graph_->insertNode(ListOf(list->getElementType(), elements))->output();
    }
    if (const auto* number = argument.get<std::int64_t>()) {
      if (plain->kind() == c10::TypeKind::FloatType) return graph_->insertConstant(static_cast<double>(*number));
      if (plain->kind() == c10::TypeKind::BoolType) return graph_->insertConstant(*number != 0);
      return graph_->insertConstant(*number);
    }
    if (const auto* number = argument.get<double>()) return graph_->insertConstant(*number);
    if (const auto* flag = argument.get<bool>()) return graph_->insertConstant(*flag);
    if (const auto* text = argument.get<std::string>()) return graph_->insertConstant(*text);
    if (const auto* constant = argument.get<Argument::Constant>()) {
      if (auto value = ToIValue(*constant)) return graph_->insertConstant(*value);
    }
    Refuse(DiagnosticCode::kUnsupportedArgument, node,
           "an argument of " + node.op + " is " + Print(argument) + ", which has no TorchScript form");
  }

  torch::jit::Node* ListOf(const c10::TypePtr& type, const std::vector<JitValue*>& elements) {
    torch::jit::Node* list = graph_->create(c10::prim::ListConstruct, elements);
    list->output()->setType(c10::ListType::create(type));
    return list;
  }

  std::optional<c10::IValue> ToIValue(const Argument::Constant& constant) const {
    if (constant.family == "device") return c10::IValue(c10::Device(constant.name));
    if (constant.family == "dtype") {
      if (const auto dtype = DTypeFromString(constant.name)) return static_cast<std::int64_t>(ToScalarType(*dtype));
    } else if (constant.family == "layout") {
      if (const auto number = LayoutNumber(constant.name)) return c10::IValue(*number);
    } else if (constant.family == "memory_format") {
      if (const auto number = MemoryFormatNumber(constant.name)) return c10::IValue(*number);
    } else if (constant.family == "group") {
      if (const auto found = groups_.find(constant.name); found != groups_.end()) return c10::IValue(found->second);
    }
    return std::nullopt;
  }

  void ExportOutput(const Node& node) {
    std::vector<JitValue*> results;
    for (const Argument& argument : node.args) {
      if (argument.node() == nullptr) Refuse(DiagnosticCode::kUnsupportedArgument, node, "a constant is returned");
      results.push_back(ValueOf(*argument.node()));
    }
    if (results.size() == 1 && !script_.returns_tuple) {
      graph_->registerOutput(results[0]);
    } else {
      graph_->registerOutput(graph_->insertNode(graph_->createTuple(results))->output());
    }
  }

  const ScriptGraph& script_;
  std::map<std::string, std::string> groups_;
  std::shared_ptr<JitGraph> graph_;
  std::vector<std::pair<const Node*, JitValue*>> arguments_;
  std::map<std::string, JitValue*> symbols_;
  std::unordered_map<const Node*, Results> values_;  // Looked up only.
};

}  // namespace
}  // namespace frontend

Expected<torch::jit::Module> ExportScript(const ScriptGraph& script, const ScriptExportOptions& options) {
  return frontend::Exporter(script, options).Run();
}

}  // namespace autosp
