#include "sympy_dims.h"

#include <utility>

namespace autosp::bindings {

namespace {

// The value of a Python integer, or nothing when it needs more than 64 bits.
std::optional<std::int64_t> Int64(PyObject* integer) {
  int overflow = 0;
  const long long value = PyLong_AsLongLongAndOverflow(integer, &overflow);
  if (value == -1 && PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    return std::nullopt;
  }
  if (overflow != 0) return std::nullopt;
  return value;
}

}  // namespace

SizeReader::SizeReader(std::map<std::string, std::int64_t>& hints)
    : hints_(hints),
      sym_int_type_(py::module_::import("torch").attr("SymInt")),
      node_(Intern("node")),
      expr_(Intern("expr")),
      args_(Intern("args")),
      name_(Intern("name")),
      p_(Intern("p")),
      is_integer_(Intern("is_integer")),
      shape_env_(Intern("shape_env")) {}

std::optional<Dim> SizeReader::Read(PyObject* size) {
  if (PyLong_CheckExact(size)) {
    const auto value = Int64(size);
    return value ? std::optional<Dim>(*value) : std::nullopt;
  }
  if (!IsSymInt(size)) return std::nullopt;
  py::object sym_node = Attr(size, node_);
  const auto found = by_sym_node_.find(sym_node.ptr());
  if (found != by_sym_node_.end()) return found->second;
  std::optional<Dim> dim = ReadSymNode(sym_node.ptr());
  by_sym_node_.emplace(sym_node.ptr(), dim);
  keep_alive_.push_back(std::move(sym_node));
  return dim;
}

std::optional<Dim> SizeReader::ReadSymNode(PyObject* sym_node) {
  const py::object expression = AttrOrNothing(sym_node, expr_);
  if (!expression) return std::nullopt;
  if (values_.is_none()) {
    const py::object environment = AttrOrNothing(sym_node, shape_env_);
    // The public name since torch 2.10; the older one is still there in some of them.
    for (const char* name : {"backed_var_to_val", "var_to_val"}) {
      if (environment && values_.is_none()) values_ = py::getattr(environment, name, py::none());
    }
  }
  if (PyLong_Check(expression.ptr())) {
    const auto value = Int64(expression.ptr());
    return value ? std::optional<Dim>(*value) : std::nullopt;
  }
  if (auto dim = Convert(expression.ptr())) return dim;
  return OpaqueSymbol(expression.ptr());
}

std::optional<Dim> SizeReader::Convert(PyObject* expression) {
  const auto found = by_expression_.find(expression);
  if (found != by_expression_.end()) return found->second;
  std::optional<Dim> dim = ConvertUncached(expression);
  if (!dim) {
    // An integer of unknown make stands for itself; a fraction makes the whole term around it unknown.
    const py::object is_integer = AttrOrNothing(expression, is_integer_);
    if (is_integer && is_integer.ptr() == Py_True) dim = OpaqueSymbol(expression);
  }
  by_expression_.emplace(expression, dim);
  keep_alive_.push_back(py::reinterpret_borrow<py::object>(expression));
  return dim;
}

std::optional<Dim> SizeReader::ConvertUncached(PyObject* expression) {
  const std::string kind = Py_TYPE(expression)->tp_name;
  if (kind == "Symbol") return ConvertSymbol(expression);
  if (kind == "Integer" || kind == "Zero" || kind == "One" || kind == "NegativeOne") {
    const auto value = Int64(Attr(expression, p_).ptr());
    return value ? std::optional<Dim>(*value) : std::nullopt;
  }
  static constexpr const char* kFunctions[] = {"Add",      "Mul", "Pow",       "PowByNatural", "FloorDiv",
                                               "CleanDiv", "Mod", "PythonMod", "Max",          "Min"};
  bool known = false;
  for (const char* function : kFunctions) known = known || kind == function;
  const py::object operands = known ? AttrOrNothing(expression, args_) : py::object();
  if (!operands || !PyTuple_Check(operands.ptr())) return std::nullopt;
  std::vector<Dim> arguments;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(operands.ptr()); ++i) {
    auto argument = Convert(PyTuple_GET_ITEM(operands.ptr(), i));
    if (!argument) return std::nullopt;
    arguments.push_back(std::move(*argument));
  }
  return ConvertCall(kind, arguments);
}

std::optional<Dim> SizeReader::ConvertCall(const std::string& function, const std::vector<Dim>& arguments) {
  if (arguments.empty()) return std::nullopt;
  if (function == "Mul") return Product(arguments);
  if (function == "Add" || function == "Max" || function == "Min") {
    Dim result = arguments[0];
    for (std::size_t i = 1; i < arguments.size(); ++i) {
      if (function == "Add") result = result + arguments[i];
      if (function == "Max") result = Max(result, arguments[i]);
      if (function == "Min") result = Min(result, arguments[i]);
    }
    return result;
  }
  if (arguments.size() != 2) return std::nullopt;
  if (function == "Pow" || function == "PowByNatural") {
    constexpr std::int64_t kLargestExponent = 8;  // Sizes are small products; beyond this the polynomial only grows.
    const auto exponent = arguments[1].constant();
    if (!exponent || *exponent < 1 || *exponent > kLargestExponent) return std::nullopt;
    return Product(std::vector<Dim>(static_cast<std::size_t>(*exponent), arguments[0]));
  }
  if (arguments[1].is_zero()) return std::nullopt;
  if (function == "Mod" || function == "PythonMod") return Mod(arguments[0], arguments[1]);
  return FloorDiv(arguments[0], arguments[1]);  // FloorDiv; CleanDiv is one without remainder
}

Dim SizeReader::ConvertSymbol(PyObject* symbol) {
  const std::string name = py::cast<std::string>(Attr(symbol, name_));
  if (!values_.is_none() && !hints_.contains(name)) {
    PyObject* value = PyObject_GetItem(values_.ptr(), symbol);
    if (value == nullptr) PyErr_Clear();  // A size that depends on data has no example value.
    if (value != nullptr) RecordHint(name, py::reinterpret_steal<py::object>(value));
  }
  return Dim::Symbol(name);
}

Dim SizeReader::OpaqueSymbol(PyObject* expression) {
  const auto key = py::reinterpret_borrow<py::object>(expression);
  if (opaque_.contains(key)) return Dim::Symbol(py::cast<std::string>(opaque_[key]));
  const std::string name = "expr" + std::to_string(opaque_.size());
  opaque_[key] = name;
  if (!values_.is_none()) {
    PyObject* value = PyObject_CallMethod(expression, "xreplace", "O", values_.ptr());
    if (value == nullptr) PyErr_Clear();
    if (value != nullptr) RecordHint(name, py::reinterpret_steal<py::object>(value));
  }
  return Dim::Symbol(name);
}

void SizeReader::RecordHint(const std::string& name, const py::object& value) {
  PyObject* integer = PyNumber_Long(value.ptr());
  if (integer == nullptr) {
    PyErr_Clear();
    return;
  }
  const auto owner = py::reinterpret_steal<py::object>(integer);
  if (const auto number = Int64(integer)) hints_[name] = *number;
}

}  // namespace autosp::bindings
