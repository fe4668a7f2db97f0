#include "fx_metadata.h"

#include <charconv>
#include <optional>
#include <utility>

namespace autosp::bindings {

namespace {

std::string_view View(PyObject* text) {
  Py_ssize_t size = 0;
  const char* data = PyUnicode_AsUTF8AndSize(text, &size);
  if (data == nullptr) {
    PyErr_Clear();
    return {};
  }
  return {data, static_cast<std::size_t>(size)};
}

// `  File "model.py", line 41, in forward`; nothing when the text is something else.
std::optional<SourceLocation> ParseFrame(std::string_view line) {
  constexpr std::string_view kFile = "File \"", kLine = "\", line ", kIn = ", in ";
  const std::size_t file = line.find(kFile);
  const std::size_t number = line.find(kLine, file == std::string_view::npos ? file : file + kFile.size());
  if (file == std::string_view::npos || number == std::string_view::npos) return std::nullopt;
  SourceLocation location;
  location.file = line.substr(file + kFile.size(), number - file - kFile.size());
  const char* first = line.data() + number + kLine.size();
  const char* last = line.data() + line.size();
  const auto [end, error] = std::from_chars(first, last, location.line);
  if (error != std::errc()) return std::nullopt;
  const std::string_view rest(end, static_cast<std::size_t>(last - end));
  if (rest.starts_with(kIn)) location.function = rest.substr(kIn.size());
  return location;
}

// Removes a leading "L['self']" or "G['model']", whatever the variable is called.
std::string_view DropVariable(std::string_view path) {
  if (!path.starts_with("L[") && !path.starts_with("G[")) return path;
  const std::size_t end = path.find(']');
  return end == std::string_view::npos ? path : path.substr(end + 1);
}

}  // namespace

std::string CleanModulePath(std::string_view path) {
  // getattr(L['self'].layers, '0') is how some versions write an attribute that is no identifier.
  if (path.starts_with("getattr(") && path.ends_with(")")) {
    const std::size_t comma = path.rfind(", ");
    if (comma != std::string_view::npos) {
      std::string outer = CleanModulePath(path.substr(8, comma - 8));
      std::string_view inner = path.substr(comma + 2, path.size() - comma - 3);
      if (inner.size() >= 2) inner = inner.substr(1, inner.size() - 2);
      return outer.empty() ? std::string(inner) : outer + "." + std::string(inner);
    }
  }
  std::string dotted;
  for (const char c : DropVariable(path)) {
    if (c == '[') dotted += '.';
    if (c != '[' && c != ']' && c != '\'' && c != '"') dotted += c;
  }
  std::string result;
  for (std::size_t begin = 0; begin < dotted.size();) {
    const std::size_t end = std::min(dotted.find('.', begin), dotted.size());
    const std::string part = dotted.substr(begin, end - begin);
    if (!part.empty() && part != "_modules") result += (result.empty() ? "" : ".") + part;
    begin = end + 1;
  }
  return result;
}

TypeReader::TypeReader(SizeReader& sizes)
    : sizes_(sizes),
      dtype_(Intern("dtype")),
      shape_(Intern("shape")),
      device_(Intern("device")),
      requires_grad_(Intern("requires_grad")) {
  const py::module_ torch = py::module_::import("torch");
  tensor_type_ = torch.attr("Tensor");
  sym_float_type_ = torch.attr("SymFloat");
  sym_bool_type_ = torch.attr("SymBool");
#define X(name, text, torch_name, bytes) \
  if (py::hasattr(torch, torch_name)) dtypes_[torch.attr(torch_name).ptr()] = DType::name;
  AUTOSP_DTYPES(X)
#undef X
}

Type TypeReader::Read(PyObject* value, std::vector<std::string>& problems) {
  if (value == Py_None) return Type::Of(Type::Kind::kNone);
  if (IsTensor(value)) return ReadTensor(value, problems);
  if (PyBool_Check(value) || TypeCheck(value, sym_bool_type_)) return Type::Of(Type::Kind::kBool);
  if (PyFloat_Check(value) || TypeCheck(value, sym_float_type_)) return Type::Of(Type::Kind::kFloat);
  if (PyLong_Check(value) || sizes_.IsSymInt(value)) {
    if (auto number = sizes_.Read(value)) return Type::Int(std::move(*number));
    return Type::Of(Type::Kind::kOther);  // A number beyond 64 bits: no size, so no pass asks for its value.
  }
  if (PyTuple_Check(value) || PyList_Check(value)) return ReadTuple(value, problems);
  return Type::Of(Type::Kind::kOther);
}

Type TypeReader::ReadTensor(PyObject* tensor, std::vector<std::string>& problems) {
  const auto dtype = dtypes_.find(Attr(tensor, dtype_).ptr());
  if (dtype == dtypes_.end()) return Type::Of(Type::Kind::kOther);  // Quantized and the like.
  const py::object shape = Attr(tensor, shape_);
  std::vector<Dim> dims;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(shape.ptr()); ++i) {
    PyObject* size = PyTuple_GET_ITEM(shape.ptr(), i);
    auto dim = sizes_.Read(size);
    if (!dim) problems.push_back("dim " + std::to_string(i) + " has the size " + std::string(py::str(size)));
    dims.push_back(dim ? std::move(*dim) : Dim());
  }
  Type type = Type::Tensor(dtype->second, std::move(dims), Attr(tensor, requires_grad_).ptr() == Py_True);
  type.device = py::str(Attr(tensor, device_));
  return type;
}

Type TypeReader::ReadTuple(PyObject* sequence, std::vector<std::string>& problems) {
  const auto items = py::reinterpret_borrow<py::sequence>(sequence);
  if (items.size() == 0) return Type::Of(Type::Kind::kOther);
  std::vector<Type> elements;
  for (std::size_t i = 0; i < items.size(); ++i) elements.push_back(Read(py::object(items[i]).ptr(), problems));
  return Type::Tuple(std::move(elements));
}

ProvenanceReader::ProvenanceReader()
    : stack_trace_(Intern("stack_trace")),
      nn_module_stack_(Intern("nn_module_stack")),
      module_(Intern("__module__")),
      name_(Intern("__name__")) {
  torch_directory_ = py::cast<std::string>(py::module_::import("torch").attr("__file__"));
  torch_directory_.resize(torch_directory_.find_last_of("/\\") + 1);
}

Provenance ProvenanceReader::Read(const py::dict& meta) {
  Provenance provenance;
  PyObject* trace = PyDict_GetItem(meta.ptr(), stack_trace_.ptr());
  if (trace != nullptr && PyUnicode_Check(trace)) provenance.location = ReadStackTrace(View(trace));
  PyObject* stack = PyDict_GetItem(meta.ptr(), nn_module_stack_.ptr());
  if (stack == nullptr || !PyDict_Check(stack) || PyDict_GET_SIZE(stack) == 0) return provenance;
  const auto modules = py::reinterpret_borrow<py::dict>(stack);
  PyObject *key = nullptr, *last = nullptr;
  for (Py_ssize_t position = 0; PyDict_Next(stack, &position, &key, &last) != 0;) continue;
  if (PyTuple_Check(last) && PyTuple_GET_SIZE(last) > 0 && PyUnicode_Check(PyTuple_GET_ITEM(last, 0))) {
    const std::string_view path = View(PyTuple_GET_ITEM(last, 0));
    auto found = module_paths_.find(path);
    if (found == module_paths_.end()) found = module_paths_.emplace(path, CleanModulePath(path)).first;
    provenance.module_path = found->second;
  }
  if (provenance.location.known()) provenance.location.function = QualifiedFunction(provenance.location, modules);
  return provenance;
}

// The innermost frame outside the framework: the line that the user wrote or chose to call.
SourceLocation ProvenanceReader::ReadStackTrace(std::string_view text) const {
  while (!text.empty()) {
    const std::size_t start = text.rfind("File \"");
    if (start == std::string_view::npos) break;
    const std::string_view line = text.substr(start, text.find('\n', start) - start);
    auto frame = ParseFrame(line);
    if (frame && !frame->file.starts_with(torch_directory_) && !frame->file.starts_with("<")) return *frame;
    text = text.substr(0, start);
  }
  return {};
}

// "forward" -> "LlamaAttention.forward": the innermost module whose class is defined in the frame's file and has such
// a method. A frame knows its function by the bare name only.
std::string ProvenanceReader::QualifiedFunction(const SourceLocation& location, const py::dict& module_stack) const {
  std::string file = location.file.substr(location.file.find_last_of("/\\") + 1);
  file.resize(std::min(file.rfind('.'), file.size()));
  std::string result = location.function;
  PyObject *key = nullptr, *entry = nullptr;
  for (Py_ssize_t position = 0; PyDict_Next(module_stack.ptr(), &position, &key, &entry) != 0;) {
    if (!PyTuple_Check(entry) || PyTuple_GET_SIZE(entry) < 2) continue;
    PyObject* type = PyTuple_GET_ITEM(entry, 1);
    if (!PyType_Check(type)) continue;
    const py::object module = AttrOrNothing(type, module_), name = AttrOrNothing(type, name_);
    if (!module || !name || !PyUnicode_Check(module.ptr()) || !PyUnicode_Check(name.ptr())) continue;
    const std::string_view dotted = View(module.ptr());
    if (dotted != "__main__" && dotted.substr(dotted.rfind('.') + 1) != file) continue;
    if (PyObject_HasAttrString(type, location.function.c_str()) == 0) continue;
    result = std::string(View(name.ptr())) + "." + location.function;
  }
  return result;
}

}  // namespace autosp::bindings
