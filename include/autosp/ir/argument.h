#pragma once

#include <autosp/ir/type.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace autosp {

struct Node;
class Graph;

// One argument of a node, positional or named.
//   text form: none true 3 1.5 "sum" %x [1, %s0, -1] dtype.f32 device.cpu layout.strided memory_format.contiguous
//              group.sp graph.body_0 opaque.4 inf -inf nan slice(0, none, 2) ellipsis
struct Argument {
  struct None {
    bool operator==(const None&) const = default;
  };
  // A named constant of the framework. family: "dtype" "device" "layout" "memory_format" "group" (a mesh axis; the
  // exporter puts the process group's name there) "graph" (a nested graph of the owner, by name) "opaque" (an object
  // that only the owner of the graph knows, by number) "ellipsis" (name empty).
  struct Constant {
    std::string family, name;
    bool operator==(const Constant&) const = default;
  };
  // A Python slice; start, stop, step.
  struct Slice;
  using List = std::vector<Argument>;

  std::variant<None, bool, std::int64_t, double, std::string, Node*, Constant, List, std::shared_ptr<Slice>> value;

  Argument() = default;
  Argument(bool v) : value(v) {}                               // NOLINT: implicit on purpose, as are all below
  Argument(int v) : value(std::int64_t{v}) {}                  // NOLINT
  Argument(std::int64_t v) : value(v) {}                       // NOLINT
  Argument(double v) : value(v) {}                             // NOLINT
  Argument(std::string v) : value(std::move(v)) {}             // NOLINT
  Argument(const char* v) : value(std::string(v)) {}           // NOLINT
  Argument(Node* v) : value(v) {}                              // NOLINT
  Argument(Constant v) : value(std::move(v)) {}                // NOLINT
  Argument(List v) : value(std::move(v)) {}                    // NOLINT
  Argument(std::shared_ptr<Slice> v) : value(std::move(v)) {}  // NOLINT
  template <typename T>
  Argument(T*) = delete;  // NOLINT: any other pointer, a const Node* say, would become a bool

  static Argument Dtype(DType dtype) { return Constant{"dtype", ToString(dtype)}; }
  static Argument Group(std::string axis) { return Constant{"group", std::move(axis)}; }

  bool is_none() const { return std::holds_alternative<None>(value); }
  bool is_list() const { return std::holds_alternative<List>(value); }
  bool is_node() const { return std::holds_alternative<Node*>(value); }
  Node* node() const { return is_node() ? std::get<Node*>(value) : nullptr; }  // null when it is no value
  const List* list() const { return std::get_if<List>(&value); }
  List* list() { return std::get_if<List>(&value); }
  template <typename T>
  const T* get() const {
    return std::get_if<T>(&value);
  }
};

struct Argument::Slice {
  Argument start, stop, step;
};

// Structural equality: nodes by identity, floats by bit pattern, slices by their parts.
bool operator==(const Argument& a, const Argument& b);

// Calls f(Node*&) for every value inside the argument, nested ones included, left to right.
template <typename F>
void ForEachNode(Argument& argument, const F& f) {
  if (auto* node = std::get_if<Node*>(&argument.value)) f(*node);
  if (auto* list = argument.list()) {
    for (Argument& item : *list) ForEachNode(item, f);
  }
  if (auto* slice = std::get_if<std::shared_ptr<Argument::Slice>>(&argument.value)) {
    ForEachNode((*slice)->start, f);
    ForEachNode((*slice)->stop, f);
    ForEachNode((*slice)->step, f);
  }
}
template <typename F>
void ForEachNode(const Argument& argument, const F& f) {
  if (Node* node = argument.node()) f(node);
  if (const auto* list = argument.list()) {
    for (const Argument& item : *list) ForEachNode(item, f);
  }
  if (const auto* slice = std::get_if<std::shared_ptr<Argument::Slice>>(&argument.value)) {
    ForEachNode(std::as_const((*slice)->start), f);
    ForEachNode(std::as_const((*slice)->stop), f);
    ForEachNode(std::as_const((*slice)->step), f);
  }
}

}  // namespace autosp
