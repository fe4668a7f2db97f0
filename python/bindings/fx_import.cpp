#include "bridge.h"
#include "fx_metadata.h"
#include "op_names.h"
#include "status_conversion.h"
#include "sympy_dims.h"

#include <autosp/ir/printer.h>
#include <autosp/ir/requires_grad.h>

#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace autosp::bindings {

namespace {

// What a node says about itself in the framework's graph.
struct FxNode {
  PyObject* self = nullptr;
  std::string name;
  py::object target;
  py::tuple args;
  py::dict kwargs, meta;
};

class Importer {
 public:
  Importer(const py::object& graph_module, std::int64_t axis_size, const std::string& axis)
      : sizes_(result_.graph.hints()), types_(sizes_) {
    result_.root = graph_module;
    result_.axis = axis;
    result_.graph.mesh().push_back({axis, axis_size});
    const py::module_ torch = py::module_::import("torch");
    node_type_ = py::module_::import("torch.fx").attr("Node");
    dtype_type_ = torch.attr("dtype");
    device_type_ = torch.attr("device");
    layout_type_ = torch.attr("layout");
    memory_format_type_ = torch.attr("memory_format");
  }

  FxGraph Run() {
    // A list on purpose: the framework's node iterator starts again after its end, so it must not be polled twice.
    const py::list nodes(result_.root.attr("graph").attr("nodes"));
    const py::str op = Intern("op");
    for (const py::handle node : nodes) {
      FxNode fx{node.ptr(),
                py::cast<std::string>(Attr(node.ptr(), name_)),
                Attr(node.ptr(), target_),
                Attr(node.ptr(), args_),
                Attr(node.ptr(), kwargs_),
                Attr(node.ptr(), meta_)};
      ImportNode(py::cast<std::string>(Attr(node.ptr(), op)), fx);
    }
    RaiseIfError(problems_);
    InferRequiresGrad(result_.graph);
    return std::move(result_);
  }

 private:
  void ImportNode(const std::string& kind, const FxNode& fx) {
    if (kind == "placeholder") {
      ImportInput(fx);
    } else if (kind == "call_function") {
      ImportCall(fx);
    } else if (kind == "get_attr") {
      ImportAttribute(fx);
    } else if (kind == "output") {
      ImportOutput(fx);
    } else {
      Problem(DiagnosticCode::kUnsupportedArgument, fx,
              "node " + fx.name + " is a " + kind + " of \"" + std::string(py::str(fx.target)) +
                  "\"; only functions and operators can be imported",
              "capture the graph as pre-dispatch ATen operations first");
      nodes_[fx.self] = nullptr;
    }
  }

  void ImportInput(const FxNode& fx) {
    Node* node = result_.graph.AddInput(fx.name, ReadType(fx));
    if (const py::object grad = Meta(fx, "autosp_requires_grad")) {
      node->type.requires_grad = node->type.is_tensor() && py::cast<bool>(py::bool_(grad));
    }
    if (const py::object tag = Meta(fx, "autosp_seq_dim"); tag && !tag.is_none()) ReadTag(fx, tag, *node);
    Finish(fx, node);
  }

  void ReadTag(const FxNode& fx, const py::object& tag, Node& node) {
    const auto wanted = py::cast<std::int64_t>(tag);
    const std::int64_t dim = wanted < 0 ? wanted + node.type.rank() : wanted;
    if (node.type.is_tensor() && dim >= 0 && dim < node.type.rank()) {
      node.seq_dim = dim;
      return;
    }
    Problem(DiagnosticCode::kBadTag, fx,
            "input " + fx.name + " is tagged with sequence dim " + std::to_string(wanted) + ", but it is " +
                Print(node.type));
  }

  void ImportCall(const FxNode& fx) {
    std::vector<Argument> args;
    for (const py::handle item : fx.args) args.push_back(ReadArgument(fx, item.ptr()));
    Type type = ReadType(fx);
    const OpNames::Name& name = names_.NameOf(fx.target.ptr());
    const bool scalar = !name.scalar.empty() && IsScalarCall(name.scalar, args, type);
    Node* node = result_.graph.AddCall(fx.name, scalar ? name.scalar : name.plain, std::move(args), std::move(type));
    for (const auto& [key, value] : fx.kwargs) {
      node->attributes.emplace_back(py::cast<std::string>(key), ReadArgument(fx, value.ptr()));
    }
    Finish(fx, node);
  }

  // operator.add is also called on tensors, and operator.getitem also indexes them; "sym." and "builtin." promise
  // that it does not.
  static bool IsScalarCall(const std::string& scalar, const std::vector<Argument>& args, const Type& type) {
    if (scalar == "builtin.getitem") {
      const Node* tuple = args.empty() ? nullptr : args[0].node();
      return tuple != nullptr && tuple->type.kind == Type::Kind::kTuple;
    }
    bool tensor = false;
    for (const Argument& argument : args) {
      ForEachNode(argument, [&](const Node* node) { tensor = tensor || node->type.is_tensor(); });
    }
    return !tensor &&
           (type.kind == Type::Kind::kInt || type.kind == Type::Kind::kFloat || type.kind == Type::Kind::kBool);
  }

  void ImportAttribute(const FxNode& fx) {
    const std::string path = py::cast<std::string>(fx.target);
    std::vector<std::string> problems;
    Type type = ReadType(fx);
    if (type.kind == Type::Kind::kOther) {
      py::object value = result_.root;
      for (std::size_t begin = 0; value && begin <= path.size();) {
        const std::size_t end = std::min(path.find('.', begin), path.size());
        value = AttrOrNothing(value.ptr(), py::str(path.substr(begin, end - begin)));
        begin = end + 1;
      }
      if (value && types_.IsTensor(value.ptr())) type = types_.Read(value.ptr(), problems);
    }
    Finish(fx, result_.graph.AddCall(fx.name, "builtin.get_attr", {path}, std::move(type)));
  }

  void ImportOutput(const FxNode& fx) {
    std::vector<Argument> values;
    PyObject* value = PyTuple_GET_ITEM(fx.args.ptr(), 0);
    if (PyTuple_Check(value) || PyList_Check(value)) {
      for (const py::handle item : py::reinterpret_borrow<py::sequence>(value)) {
        values.push_back(ReadArgument(fx, item.ptr()));
      }
    } else {
      values.push_back(ReadArgument(fx, value));
    }
    Finish(fx, result_.graph.SetOutput(std::move(values)));
  }

  void Finish(const FxNode& fx, Node* node) {
    node->provenance = provenance_.Read(fx.meta);
    if (node->name != fx.name && !node->is_output()) node->provenance.fx_name = fx.name;
    node->origin = static_cast<int>(result_.origins.size());
    result_.origins.push_back({py::reinterpret_borrow<py::object>(fx.self), node->op, node->type});
    nodes_[fx.self] = node;
    if (node->is_input() && node->type.kind == Type::Kind::kInt) {
      if (auto symbol = node->type.number.symbol()) int_inputs_.emplace(*symbol, node);
    }
  }

  Type ReadType(const FxNode& fx) {
    PyObject* value = PyDict_GetItem(fx.meta.ptr(), val_.ptr());
    if (value == nullptr) value = PyDict_GetItem(fx.meta.ptr(), example_value_.ptr());
    if (value == nullptr) {
      const bool marker = fx.target && names_.NameOf(fx.target.ptr()).plain == "builtin.set_grad_enabled";
      return Type::Of(marker ? Type::Kind::kNone : Type::Kind::kOther);
    }
    std::vector<std::string> problems;
    Type type = types_.Read(value, problems);
    for (const std::string& problem : problems) {
      Problem(DiagnosticCode::kUnsupportedSymbol, fx, "value " + fx.name + " cannot be imported: " + problem);
    }
    return type;
  }

  // One argument. What has no form of its own is kept as an opaque object, unless it hides values of the graph.
  Argument ReadArgument(const FxNode& fx, PyObject* value) {
    if (value == Py_None) return {};
    if (IsInstance(value, node_type_)) {
      const auto found = nodes_.find(value);
      if (found == nodes_.end()) return Unsupported(fx, value, "a value that is not computed before it is used");
      return found->second != nullptr ? Argument(found->second) : Argument();  // Null: refused, and reported there.
    }
    if (PyBool_Check(value)) return value == Py_True;
    if (PyLong_CheckExact(value)) return ReadInteger(value);
    if (PyFloat_CheckExact(value)) return PyFloat_AS_DOUBLE(value);
    if (PyUnicode_CheckExact(value)) return py::cast<std::string>(py::handle(value));
    if (PyTuple_Check(value) || PyList_Check(value)) {
      Argument::List items;
      for (const py::handle item : py::reinterpret_borrow<py::sequence>(value)) {
        items.push_back(ReadArgument(fx, item.ptr()));
      }
      return items;
    }
    if (PySlice_Check(value)) {
      auto slice = std::make_shared<Argument::Slice>();
      slice->start = ReadArgument(fx, Attr(value, start_).ptr());
      slice->stop = ReadArgument(fx, Attr(value, stop_).ptr());
      slice->step = ReadArgument(fx, Attr(value, step_).ptr());
      return slice;
    }
    if (value == Py_Ellipsis) return Argument::Constant{"ellipsis", ""};
    if (auto constant = ReadConstant(value)) return std::move(*constant);
    if (sizes_.IsSymInt(value)) return ReadSymInt(fx, value);
    if (PyDict_Check(value) && HoldsNode(value)) return Unsupported(fx, value, "a dict that holds values of the graph");
    return Opaque(value);
  }

  Argument ReadInteger(PyObject* value) {
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow != 0) return Opaque(value);
    return static_cast<std::int64_t>(number);
  }

  std::optional<Argument> ReadConstant(PyObject* value) {
    const auto text = [&] { return py::cast<std::string>(py::str(py::handle(value))); };
    const auto after_dot = [](const std::string& name) { return name.substr(name.rfind('.') + 1); };
    if (IsInstance(value, dtype_type_)) {
      const auto dtype = DTypeFromTorchName(after_dot(text()));
      return dtype ? Argument::Dtype(*dtype) : Opaque(value);
    }
    if (IsInstance(value, device_type_)) return Argument::Constant{"device", text()};
    if (IsInstance(value, layout_type_)) return Argument::Constant{"layout", after_dot(text())};
    if (IsInstance(value, memory_format_type_)) {
      std::string name = after_dot(text());
      if (name.ends_with("_format")) name.resize(name.size() - 7);  // contiguous_format -> contiguous
      return Argument::Constant{"memory_format", std::move(name)};
    }
    return std::nullopt;
  }

  // A symbolic size written into the graph as a literal: the input that carries the symbol stands for it.
  Argument ReadSymInt(const FxNode& fx, PyObject* value) {
    const auto dim = sizes_.Read(value);
    if (dim && dim->constant()) return *dim->constant();
    const auto symbol = dim ? dim->symbol() : std::nullopt;
    const auto input = symbol ? int_inputs_.find(*symbol) : int_inputs_.end();
    if (input != int_inputs_.end()) return input->second;
    return Unsupported(fx, value, "a symbolic size that is no value of the graph");
  }

  bool HoldsNode(PyObject* value) {
    if (IsInstance(value, node_type_)) return true;
    bool found = false;
    if (PyDict_Check(value)) {
      PyObject *key = nullptr, *item = nullptr;
      for (Py_ssize_t position = 0; PyDict_Next(value, &position, &key, &item) != 0;) found = found || HoldsNode(item);
    } else if (PyTuple_Check(value) || PyList_Check(value)) {
      for (const py::handle item : py::reinterpret_borrow<py::sequence>(value)) found = found || HoldsNode(item.ptr());
    }
    return found;
  }

  Argument Opaque(PyObject* value) {
    const auto [entry, added] = opaque_numbers_.emplace(value, result_.opaques.size());
    if (added) result_.opaques.push_back(py::reinterpret_borrow<py::object>(value));
    return Argument::Constant{"opaque", std::to_string(entry->second)};
  }

  Argument Unsupported(const FxNode& fx, PyObject* value, const std::string& what) {
    Problem(DiagnosticCode::kUnsupportedArgument, fx,
            "an argument of " + fx.name + " is " + what + ": " + std::string(py::str(py::handle(value))));
    return {};
  }

  void Problem(DiagnosticCode code, const FxNode& fx, std::string message, std::string hint = "") {
    Diagnostic diagnostic;
    diagnostic.code = code;
    diagnostic.message = std::move(message);
    diagnostic.location = provenance_.Read(fx.meta).location;
    diagnostic.subject = "%" + fx.name;
    diagnostic.hint = std::move(hint);
    problems_.Add(std::move(diagnostic));
  }

  static bool IsInstance(PyObject* object, const py::object& type) {
    return PyObject_TypeCheck(object, reinterpret_cast<PyTypeObject*>(type.ptr())) != 0;
  }
  static py::object Meta(const FxNode& fx, const char* key) {
    return py::reinterpret_borrow<py::object>(PyDict_GetItemString(fx.meta.ptr(), key));
  }

  FxGraph result_;
  SizeReader sizes_;
  TypeReader types_;
  ProvenanceReader provenance_;
  OpNames names_;
  Status problems_;
  py::object node_type_, dtype_type_, device_type_, layout_type_, memory_format_type_;
  // Looked up by address only; the graph module and opaques keep the objects alive.
  std::unordered_map<PyObject*, Node*> nodes_;
  std::unordered_map<PyObject*, std::size_t> opaque_numbers_;
  std::map<std::string, Node*> int_inputs_;
  py::str name_ = Intern("name"), target_ = Intern("target"), args_ = Intern("args"), kwargs_ = Intern("kwargs"),
          meta_ = Intern("meta"), val_ = Intern("val"), example_value_ = Intern("example_value"),
          start_ = Intern("start"), stop_ = Intern("stop"), step_ = Intern("step");
};

}  // namespace

FxGraph ImportFx(const py::object& graph_module, std::int64_t axis_size, const std::string& axis) {
  if (axis_size < 1) throw py::value_error("axis_size is " + std::to_string(axis_size) + ", but must be at least 1");
  return Importer(graph_module, axis_size, axis).Run();
}

}  // namespace autosp::bindings
