#pragma once

#include "bridge.h"

#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace autosp::bindings {

// The IR names of the framework's callables, both ways.
//   torch.ops.aten.add.Tensor        aten.add.Tensor          torch.ops.aten.linear.default   aten.linear
//   operator.add over integers       sym.add                  operator.getitem of a tuple     builtin.getitem
//   torch.ops.higher_order.cond      torch.higher_order.cond  anything else                   py.<module>.<qualname>
class OpNames {
 public:
  struct Name {
    std::string plain;   // "py._operator.add"
    std::string scalar;  // "sym.add": the name when no tensor takes part; empty when there is none
  };

  OpNames();
  const Name& NameOf(PyObject* target);
  // The callable; a null object when the framework has none of this name.
  py::object Resolve(const std::string& op);

 private:
  Name MakeName(PyObject* target) const;
  py::object Find(std::string_view op) const;

  py::object overload_type_, higher_order_type_;
  std::unordered_map<PyObject*, std::string> scalars_;  // Looked up only; the targets live in modules.
  std::map<std::string, py::object, std::less<>> builtins_;
  std::unordered_map<PyObject*, Name> names_;
  std::vector<py::object> keep_alive_;  // What the keys of names_ point to.
  std::map<std::string, py::object> resolved_;
};

}  // namespace autosp::bindings
