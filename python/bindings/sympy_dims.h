#pragma once

#include "bridge.h"

#include <autosp/ir/dim.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace autosp::bindings {

// Reads sizes: Python integers and SymInts, whose `node.expr` is a sympy tree. The tree is walked, never printed and
// parsed. What a Dim cannot say (a function other than + * // % max min, a fraction) becomes a symbol of its own,
// "expr0", "expr1", ... in the order of the first meeting; equal expressions share it.
class SizeReader {
 public:
  // `hints` receives the value that the example inputs gave to each symbol.
  explicit SizeReader(std::map<std::string, std::int64_t>& hints);

  bool IsSymInt(PyObject* object) const { return PyObject_TypeCheck(object, SymIntType()) != 0; }
  // Nothing when `size` is no integer of a known kind (a nested int, an integer beyond 64 bits).
  std::optional<Dim> Read(PyObject* size);

 private:
  PyTypeObject* SymIntType() const { return reinterpret_cast<PyTypeObject*>(sym_int_type_.ptr()); }
  std::optional<Dim> ReadSymNode(PyObject* sym_node);
  std::optional<Dim> Convert(PyObject* expression);
  std::optional<Dim> ConvertUncached(PyObject* expression);
  std::optional<Dim> ConvertCall(const std::string& function, const std::vector<Dim>& arguments);
  Dim ConvertSymbol(PyObject* symbol);
  Dim OpaqueSymbol(PyObject* expression);
  void RecordHint(const std::string& name, const py::object& value);

  std::map<std::string, std::int64_t>& hints_;
  py::object sym_int_type_;
  py::str node_, expr_, args_, name_, p_, is_integer_, shape_env_;
  py::object values_ = py::none();  // The shape environment's symbol -> example value.
  // Keyed by address for speed, looked up only; keep_alive_ holds what the keys point to.
  std::unordered_map<PyObject*, std::optional<Dim>> by_sym_node_, by_expression_;
  std::vector<py::object> keep_alive_;
  py::dict opaque_;  // expression -> name of its symbol; sympy compares by structure
};

}  // namespace autosp::bindings
