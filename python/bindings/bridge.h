#pragma once

#include <autosp/ir/graph.h>

#include <pybind11/pybind11.h>

#include <map>
#include <string>
#include <vector>

namespace autosp::bindings {

namespace py = pybind11;

// A node of the framework's graph as it was when it was read.
struct Origin {
  py::object node;  // torch.fx.Node
  std::string op;   // its name in the IR; a pass that gives a node another op gives up the original callable
  Type type;
};

// A graph together with the Python objects that it stands for. This is `autosp._core.Graph`.
struct FxGraph {
  Graph graph;
  std::string axis = "sp";
  py::object root = py::none();     // The torch.fx.GraphModule; None for a graph read from text.
  std::vector<Origin> origins;      // By Node::origin.
  std::vector<py::object> opaques;  // By the number in Constant{"opaque", number}.
  bool tangents_held = false;       // Of a joint graph: PlannerOptions::tangents_held.

  FxGraph Clone() const { return {graph.Clone(), axis, root, origins, opaques, tangents_held}; }
};

// Reads a torch.fx.GraphModule. Raises AutoSPError with every node that cannot be represented.
FxGraph ImportFx(const py::object& graph_module, std::int64_t axis_size, const std::string& axis);

// A new GraphModule that shares the attributes of the imported one. `groups` maps a mesh axis to the name of its
// process group.
py::object ExportFx(const FxGraph& source, const std::map<std::string, std::string>& groups);

// run_passes, list_passes and list_rules.
void BindPasses(py::module_& module);
// mark_joint and plan_joint.
void BindJoint(py::module_& module);

// The value of object.name, by an interned name; throws the Python error.
inline py::object Attr(PyObject* object, const py::str& name) {
  PyObject* value = PyObject_GetAttr(object, name.ptr());
  if (value == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(value);
}

// As Attr; nothing (and no Python error) when there is no such attribute.
inline py::object AttrOrNothing(PyObject* object, const py::str& name) {
  PyObject* value = PyObject_GetAttr(object, name.ptr());
  if (value == nullptr) PyErr_Clear();
  return py::reinterpret_steal<py::object>(value);
}

inline py::str Intern(const char* text) { return py::reinterpret_steal<py::str>(PyUnicode_InternFromString(text)); }

}  // namespace autosp::bindings
