#include "bridge.h"
#include "op_names.h"
#include "status_conversion.h"

#include <charconv>
#include <cmath>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace autosp::bindings {

namespace {

class Exporter {
 public:
  Exporter(const FxGraph& source, const std::map<std::string, std::string>& groups)
      : source_(source), groups_(groups), torch_(py::module_::import("torch")), fx_(py::module_::import("torch.fx")) {
    keeps_values_ = source.graph.form() == Form::kCaptured || source.graph.form() == Form::kJoint ||
                    source.graph.form() == Form::kPlanned;
    const py::object root = source.root;
    if (root.is_none()) {
      graph_ = fx_.attr("Graph")();
      return;
    }
    const py::object original = root.attr("graph");
    graph_ = fx_.attr("Graph")(py::arg("tracer_cls") = py::getattr(original, "_tracer_cls", py::none()));
    graph_.attr("_codegen") = py::module_::import("copy").attr("deepcopy")(original.attr("_codegen"));
  }

  py::object Run() {
    create_node_ = graph_.attr("create_node");
    for (const auto& node : source_.graph.nodes()) {
      py::object fx = Create(*node);
      if (!fx.is_none()) WriteMeta(*node, fx);
      nodes_.emplace(node.get(), std::move(fx));
    }
    RaiseIfError(problems_);
    LocateFromReaders();
    return MakeModule();
  }

 private:
  const Origin* OriginOf(const Node& node) const {
    const auto index = static_cast<std::size_t>(node.origin);
    return node.origin >= 0 && index < source_.origins.size() ? &source_.origins[index] : nullptr;
  }

  py::object Create(const Node& node) {
    const Origin* origin = OriginOf(node);
    if (node.is_output()) {
      const py::object value = OutputValue(node, origin);
      return create_node_("output", "output", py::make_tuple(value), py::dict(), "output", TypeExpression(origin));
    }
    if (node.is_input()) {
      const py::object target = origin != nullptr ? origin->node.attr("target") : py::object(py::str(node.name));
      const py::object defaults = origin != nullptr ? origin->node.attr("args") : py::object(py::tuple());
      return create_node_("placeholder", target, defaults, py::dict(), node.name, TypeExpression(origin));
    }
    if (node.is_call("builtin.get_attr")) return CreateAttribute(node, origin);
    return CreateCall(node, origin != nullptr && origin->op == node.op ? origin : nullptr);
  }

  static py::object TypeExpression(const Origin* origin) {
    return origin != nullptr ? origin->node.attr("type") : py::object(py::none());
  }

  py::object CreateAttribute(const Node& node, const Origin* origin) {
    const std::string* path = node.args.empty() ? nullptr : node.args[0].get<std::string>();
    if (path == nullptr || source_.root.is_none()) {
      return Problem(
          DiagnosticCode::kInvalidGraph, node,
          "the attribute of " + node.name + " is unknown: the graph has no module that it was imported from");
    }
    return create_node_("get_attr", *path, py::tuple(), py::dict(), node.name, TypeExpression(origin));
  }

  py::object CreateCall(const Node& node, const Origin* origin) {
    const py::object target = origin != nullptr ? origin->node.attr("target") : names_.Resolve(node.op);
    if (!target) {
      return Problem(DiagnosticCode::kInvalidGraph, node,
                     "the framework has no operation named " + node.op +
                         (node.op.starts_with("autosp.") ? "; lower it before the graph is exported" : ""));
    }
    const py::object old_args = origin != nullptr ? Attr(origin->node.ptr(), args_) : py::object();
    const py::object old_kwargs = origin != nullptr ? Attr(origin->node.ptr(), kwargs_) : py::object();
    py::tuple args(node.args.size());
    for (std::size_t i = 0; i < node.args.size(); ++i) {
      args[i] = Convert(node, node.args[i], Item(old_args.ptr(), i));
    }
    py::dict kwargs;
    for (const auto& [name, value] : node.attributes) {
      PyObject* old = old_kwargs ? PyDict_GetItemString(old_kwargs.ptr(), name.c_str()) : nullptr;
      kwargs[py::str(name)] = Convert(node, value, old);
    }
    return create_node_("call_function", target, args, kwargs, node.name, TypeExpression(origin));
  }

  py::object OutputValue(const Node& node, const Origin* origin) {
    py::object old = origin != nullptr ? py::object(origin->node.attr("args")[py::int_(0)]) : py::object(py::tuple());
    const bool bare = !PyTuple_Check(old.ptr()) && !PyList_Check(old.ptr());
    if (bare && node.args.size() == 1) return Convert(node, node.args[0], old.ptr());
    return ConvertList(node, node.args, old.ptr());
  }

  static PyObject* Item(PyObject* sequence, std::size_t index) {
    if (sequence == nullptr || (!PyTuple_Check(sequence) && !PyList_Check(sequence))) return nullptr;
    const auto position = static_cast<Py_ssize_t>(index);
    if (position >= Py_SIZE(sequence)) return nullptr;
    return PyTuple_Check(sequence) ? PyTuple_GET_ITEM(sequence, position) : PyList_GET_ITEM(sequence, position);
  }

  // `old` is what stood at the same place in the imported node, or null: it decides between list and tuple only.
  py::object Convert(const Node& node, const Argument& argument, PyObject* old) {
    if (argument.is_none()) return py::none();
    if (const bool* value = argument.get<bool>()) return py::bool_(*value);
    if (const auto* value = argument.get<std::int64_t>()) return py::int_(*value);
    if (const double* value = argument.get<double>()) return py::float_(*value);
    if (const auto* value = argument.get<std::string>()) return py::str(*value);
    if (const Node* value = argument.node()) {
      const auto found = nodes_.find(value);
      if (found != nodes_.end()) return found->second;
      return Problem(DiagnosticCode::kInvalidGraph, node,
                     node.name + " reads %" + value->name + ", which is not computed before it");
    }
    if (const auto* items = argument.list()) return ConvertList(node, *items, old);
    if (const auto* slice = argument.get<std::shared_ptr<Argument::Slice>>()) {
      const py::object start = Convert(node, (*slice)->start, nullptr), stop = Convert(node, (*slice)->stop, nullptr),
                       step = Convert(node, (*slice)->step, nullptr);
      return py::reinterpret_steal<py::object>(PySlice_New(start.ptr(), stop.ptr(), step.ptr()));
    }
    return ConvertConstant(node, *argument.get<Argument::Constant>());
  }

  py::object ConvertList(const Node& node, const Argument::List& items, PyObject* old) {
    py::list list;
    for (std::size_t i = 0; i < items.size(); ++i) list.append(Convert(node, items[i], Item(old, i)));
    if (old == nullptr || !PyTuple_Check(old)) return list;
    const py::object type = py::type::of(py::handle(old));
    if (py::hasattr(type, "_fields")) return type(*list);  // a named tuple
    return py::tuple(list);
  }

  py::object ConvertConstant(const Node& node, const Argument::Constant& constant) {
    const auto& [family, name] = constant;
    if (family == "ellipsis") return py::ellipsis();
    if (family == "device") return torch_.attr("device")(name);
    if (family == "opaque") {
      std::size_t number = 0;
      const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
      if (error == std::errc() && number < source_.opaques.size()) return source_.opaques[number];
    } else if (family == "group") {
      const auto group = groups_.find(name);
      if (group != groups_.end()) return py::str(group->second);
      return Problem(DiagnosticCode::kNoProcessGroup, node,
                     "no process group was given for the mesh axis \"" + name + "\"");
    } else if (family == "graph") {
      return create_node_("get_attr", name, py::tuple(), py::dict());
    } else if (family == "dtype") {
      if (const auto dtype = DTypeFromString(name)) return torch_.attr(TorchName(*dtype));
    } else if (family == "layout" || family == "memory_format") {
      for (const std::string& attribute : {name, name + "_format"}) {
        if (py::hasattr(torch_, attribute.c_str())) return torch_.attr(attribute.c_str());
      }
    }
    return Problem(DiagnosticCode::kInvalidGraph, node,
                   "the constant " + family + "." + name + " of " + node.name + " is unknown to this graph");
  }

  // The meta data of an imported node stays; a value recorded for it stays only while it is still true.
  void WriteMeta(const Node& node, const py::object& fx) {
    const Origin* origin = OriginOf(node);
    if (origin == nullptr) {
      LocateFromOperands(node, fx);
      return;
    }
    const auto meta = py::reinterpret_steal<py::dict>(PyDict_Copy(Attr(origin->node.ptr(), meta_).ptr()));
    const bool same_input = node.is_input() && node.type == origin->type;
    if (!same_input && (!keeps_values_ || origin->op != node.op)) {
      for (const char* key : {"val", "tensor_meta", "example_value"}) meta.attr("pop")(key, py::none());
    }
    PyObject_SetAttr(fx.ptr(), meta_.ptr(), meta.ptr());
  }

  // A new node belongs to the source line of the nearest value that it reads (an input is not computed anywhere), ...
  void LocateFromOperands(const Node& node, const py::object& fx) {
    const std::vector<Node*> operands = node.operands();
    for (auto operand = operands.rbegin(); operand != operands.rend(); ++operand) {
      const auto found = (*operand)->is_input() ? nodes_.end() : nodes_.find(*operand);
      if (found != nodes_.end() && !found->second.is_none() && CopyLocation(found->second, fx)) return;
    }
    if (!node.is_output()) unlocated_.push_back(&node);
  }

  // ... or of the first node that reads it, ...
  void LocateFromReaders() {
    if (unlocated_.empty()) return;
    const auto users = source_.graph.Users();
    for (auto node = unlocated_.rbegin(); node != unlocated_.rend(); ++node) {
      const py::object& fx = nodes_.at(*node);
      bool located = false;
      if (const auto readers = users.find(*node); readers != users.end()) {
        for (const Node* reader : readers->second) {
          located = located || CopyLocation(nodes_.at(reader), fx);
        }
      }
      const SourceLocation& location = (*node)->provenance.location;
      if (located || !location.known()) continue;
      // ... or of the line that the pass wrote down.
      fx.attr("meta")["stack_trace"] = "  File \"" + location.file + "\", line " + std::to_string(location.line) +
                                       ", in " + location.function + "\n";
    }
  }

  bool CopyLocation(const py::object& from, const py::object& to) const {
    const py::dict source = Attr(from.ptr(), meta_), target = Attr(to.ptr(), meta_);
    if (!source.contains("stack_trace")) return false;
    for (const char* key : {"stack_trace", "nn_module_stack"}) {
      if (source.contains(key)) target[key] = source[key];
    }
    return true;
  }

  py::object MakeModule() {
    const bool parsed = source_.root.is_none();
    const py::object root = parsed ? torch_.attr("nn").attr("Module")() : source_.root;
    const py::object name =
        parsed ? py::object(py::str("GraphModule")) : py::object(root.attr("__class__").attr("__name__"));
    py::object module = fx_.attr("GraphModule")(root, graph_, name);  // compiles the code
    if (!parsed) {
      const py::dict meta = py::getattr(root, "meta", py::dict());
      module.attr("meta") = py::reinterpret_steal<py::dict>(PyDict_Copy(meta.ptr()));
      if (py::hasattr(root, "shape_env")) module.attr("shape_env") = root.attr("shape_env");
    }
    module.attr("graph").attr("lint")();
    return module;
  }

  // Records the problem and gives None in place of what could not be made; with a problem nothing is exported.
  py::object Problem(DiagnosticCode code, const Node& node, std::string message) {
    Diagnostic diagnostic;
    diagnostic.code = code;
    diagnostic.message = std::move(message);
    diagnostic.location = node.provenance.location;
    diagnostic.subject = "%" + node.name;
    problems_.Add(std::move(diagnostic));
    return py::none();
  }

  const FxGraph& source_;
  const std::map<std::string, std::string>& groups_;
  py::module_ torch_, fx_;
  bool keeps_values_ = true;
  py::object graph_, create_node_;
  OpNames names_;
  Status problems_;
  std::unordered_map<const Node*, py::object> nodes_;  // Looked up only.
  std::vector<const Node*> unlocated_;
  py::str args_ = Intern("args"), kwargs_ = Intern("kwargs"), meta_ = Intern("meta");
};

}  // namespace

py::object ExportFx(const FxGraph& source, const std::map<std::string, std::string>& groups) {
  return Exporter(source, groups).Run();
}

}  // namespace autosp::bindings
