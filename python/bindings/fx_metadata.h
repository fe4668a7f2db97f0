#pragma once

#include "bridge.h"
#include "sympy_dims.h"

#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace autosp::bindings {

// Reads what the framework wrote down about a value (meta["val"]) as a Type.
class TypeReader {
 public:
  explicit TypeReader(SizeReader& sizes);

  bool IsTensor(PyObject* object) const { return TypeCheck(object, tensor_type_); }
  // Sizes that cannot be read are described in `problems`.
  Type Read(PyObject* value, std::vector<std::string>& problems);

 private:
  static bool TypeCheck(PyObject* object, const py::object& type) {
    return PyObject_TypeCheck(object, reinterpret_cast<PyTypeObject*>(type.ptr())) != 0;
  }
  Type ReadTensor(PyObject* tensor, std::vector<std::string>& problems);
  Type ReadTuple(PyObject* sequence, std::vector<std::string>& problems);

  SizeReader& sizes_;
  py::object tensor_type_, sym_float_type_, sym_bool_type_;
  py::str dtype_, shape_, device_, requires_grad_;
  std::unordered_map<PyObject*, DType> dtypes_;  // The framework's dtypes live as long as the process.
};

// Reads where a node comes from: the user's line, the function and the module.
class ProvenanceReader {
 public:
  ProvenanceReader();
  Provenance Read(const py::dict& meta);

 private:
  SourceLocation ReadStackTrace(std::string_view text) const;
  std::string QualifiedFunction(const SourceLocation& location, const py::dict& module_stack) const;

  py::str stack_trace_, nn_module_stack_, module_, name_;
  std::string torch_directory_;
  std::map<std::string, std::string, std::less<>> module_paths_;
};

// "L['self'].model.layers[0]._modules['attn']" -> "model.layers.0.attn".
std::string CleanModulePath(std::string_view path);

}  // namespace autosp::bindings
