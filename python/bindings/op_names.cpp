#include "op_names.h"

#include <utility>

namespace autosp::bindings {

namespace {

struct Builtin {
  const char *name, *module, *attribute;
};

// Python functions that have a name of their own in the IR. The first row of a name is the one that export calls.
constexpr Builtin kBuiltins[] = {
    {"builtin.getitem", "operator", "getitem"},
    {"builtin.set_grad_enabled", "torch._C", "_set_grad_enabled"},
    {"sym.abs", "operator", "abs"},
    {"sym.add", "operator", "add"},
    {"sym.and", "operator", "and_"},
    {"sym.ceil", "math", "ceil"},
    {"sym.eq", "operator", "eq"},
    {"sym.float", "torch", "sym_float"},
    {"sym.floor", "math", "floor"},
    {"sym.floordiv", "operator", "floordiv"},
    {"sym.ge", "operator", "ge"},
    {"sym.gt", "operator", "gt"},
    {"sym.int", "torch", "sym_int"},
    {"sym.ite", "torch", "sym_ite"},
    {"sym.le", "operator", "le"},
    {"sym.lshift", "operator", "lshift"},
    {"sym.lt", "operator", "lt"},
    {"sym.max", "torch", "sym_max"},
    {"sym.max", "builtins", "max"},
    {"sym.min", "torch", "sym_min"},
    {"sym.min", "builtins", "min"},
    {"sym.mod", "operator", "mod"},
    {"sym.mul", "operator", "mul"},
    {"sym.ne", "operator", "ne"},
    {"sym.neg", "operator", "neg"},
    {"sym.not", "torch", "sym_not"},
    {"sym.or", "operator", "or_"},
    {"sym.pos", "operator", "pos"},
    {"sym.pow", "operator", "pow"},
    {"sym.round", "builtins", "round"},
    {"sym.rshift", "operator", "rshift"},
    {"sym.sqrt", "torch", "_sym_sqrt"},
    {"sym.sub", "operator", "sub"},
    {"sym.sum", "torch", "sym_sum"},
    {"sym.truediv", "operator", "truediv"},
    {"sym.trunc", "math", "trunc"},
    {"sym.xor", "operator", "xor"},
};

constexpr std::string_view kPython = "py.", kHigherOrder = "torch.higher_order.";

std::vector<std::string> Split(std::string_view text) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

py::object GetAttribute(const py::object& object, const std::string& name) {
  return AttrOrNothing(object.ptr(), py::str(name));
}

// module.qualname, submodules imported on the way.
py::object FindPython(std::string_view path) {
  std::string prefix;
  py::object object;
  for (const std::string& part : Split(path)) {
    prefix += (prefix.empty() ? "" : ".") + part;
    py::object next = object ? GetAttribute(object, part) : py::object();
    if (!next) {
      next = py::reinterpret_steal<py::object>(PyImport_ImportModule(prefix.c_str()));
      if (!next) PyErr_Clear();
    }
    if (!next) return {};
    object = std::move(next);
  }
  return object;
}

std::string StringAttribute(PyObject* object, const char* name) {
  const py::object value = AttrOrNothing(object, py::str(name));
  return value && PyUnicode_Check(value.ptr()) ? py::cast<std::string>(value) : std::string();
}

}  // namespace

OpNames::OpNames() {
  const py::module_ ops = py::module_::import("torch._ops");
  overload_type_ = ops.attr("OpOverload");
  higher_order_type_ = ops.attr("HigherOrderOperator");
  for (const Builtin& row : kBuiltins) {
    const py::object function = py::getattr(py::module_::import(row.module), row.attribute, py::none());
    if (function.is_none()) continue;
    scalars_.emplace(function.ptr(), row.name);
    builtins_.emplace(row.name, function);
  }
}

const OpNames::Name& OpNames::NameOf(PyObject* target) {
  const auto found = names_.find(target);
  if (found != names_.end()) return found->second;
  keep_alive_.push_back(py::reinterpret_borrow<py::object>(target));
  return names_.emplace(target, MakeName(target)).first->second;
}

OpNames::Name OpNames::MakeName(PyObject* target) const {
  const py::handle object(target);
  if (py::isinstance(object, overload_type_)) {
    std::string name = py::cast<std::string>(object.attr("name")());  // "aten::add.Tensor"
    const std::size_t colons = name.find("::");
    if (colons != std::string::npos) name.replace(colons, 2, ".");
    return {name, ""};
  }
  if (py::isinstance(object, higher_order_type_)) {
    return {std::string(kHigherOrder) + py::cast<std::string>(object.attr("name")()), ""};
  }
  const auto scalar = scalars_.find(target);
  const std::string special = scalar == scalars_.end() ? "" : scalar->second;
  if (special == "builtin.set_grad_enabled") return {special, ""};
  std::string module = StringAttribute(target, "__module__"), name = StringAttribute(target, "__qualname__");
  if (name.empty()) name = StringAttribute(target, "__name__");
  if (name.empty()) name = Py_TYPE(target)->tp_name;
  if (module.empty()) module = "builtins";
  std::string plain = std::string(kPython) + module + "." + name;
  for (char& c : plain) {
    const bool allowed = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.';
    if (!allowed) c = '_';  // "f.<locals>.g" must stay one word of the text form
  }
  return {plain, special};
}

py::object OpNames::Resolve(const std::string& op) {
  const auto found = resolved_.find(op);
  if (found != resolved_.end()) return found->second;
  return resolved_.emplace(op, Find(op)).first->second;
}

py::object OpNames::Find(std::string_view op) const {
  if (const auto builtin = builtins_.find(op); builtin != builtins_.end()) return builtin->second;
  if (op.starts_with(kPython)) return FindPython(op.substr(kPython.size()));
  // This module registers the operators of this package, and the adjoints of the functional collectives: without them
  // the gradient through a collective is wrong and nothing says so.
  if (op.starts_with("autosp_fx.") || op.starts_with("_c10d_functional.")) py::module_::import("autosp.collectives");
  if (op.starts_with("autosp_rt.")) py::module_::import("autosp.rt").attr("load")();
  const py::object ops = py::module_::import("torch").attr("ops");
  if (op.starts_with(kHigherOrder)) {
    return GetAttribute(ops.attr("higher_order"), std::string(op.substr(kHigherOrder.size())));
  }
  const std::vector<std::string> parts = Split(op);
  if (parts.size() != 2 && parts.size() != 3) return {};
  const py::object space = GetAttribute(ops, parts[0]);
  const py::object packet = space ? GetAttribute(space, parts[1]) : py::object();
  if (!packet) return {};
  return GetAttribute(packet, parts.size() == 3 ? parts[2] : "default");
}

}  // namespace autosp::bindings
