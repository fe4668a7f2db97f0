#pragma once

#include <autosp/ir/graph.h>
#include <autosp/ir/sym_builder.h>
#include <autosp/pass/pass_options.h>
#include <autosp/sharding/op_rules.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "random_graph.h"

namespace autosp::test {

using Shape = std::vector<Dim>;
using Sizes = std::map<std::string, std::int64_t>;  // By symbol.

// What the random operations of a program are written with: a graph under construction, the values that later ones may
// read, and sizes that are known to be small. Names of inputs say how their values are made: see MakeProgramInputs.
class ProgramBuilder {
 public:
  ProgramBuilder(std::uint64_t seed, const RuleTable& rules, Graph& graph)
      : random_(seed), rules_(rules), graph_(graph) {}

  Random& random() { return random_; }
  Graph& graph() { return graph_; }
  bool OneIn(std::int64_t n) { return random_.OneIn(n); }
  std::int64_t Below(std::int64_t n) { return random_.Below(n); }
  template <typename T>
  T OneOf(std::initializer_list<T> list) {
    return *(list.begin() + random_.Below(static_cast<std::int64_t>(list.size())));
  }
  // Operations without a row are drawn too, but seldom: they are refused.
  bool Known(const std::string& op) { return rules_.Find(op) != nullptr || OneIn(40); }

  // The sizes of the first run; of all runs, the smallest value that a size takes.
  std::vector<Sizes> runs;
  std::int64_t Value(const Dim& dim) const { return dim.Evaluate(runs.front()).value_or(1); }
  std::int64_t Least(const Dim& dim) const;
  std::int64_t Count(const Shape& shape) const;
  bool Small(const Shape& shape) const { return shape.size() <= 5 && Count(shape) <= 3000; }

  // A floating value that was made; the later ones more often.
  Node* Pick();
  // One of them for which the test holds; null when there is none.
  Node* PickIf(const std::function<bool(const Node&)>& test);
  const std::vector<Node*>& values() const { return values_; }

  Node* Input(const std::string& name, DType dtype, Shape shape, int seq_dim = -1);
  Node* Weight(Shape shape);  // trained
  Argument Size(const Dim& dim);
  Argument::List SizeList(const Shape& shape);
  // Appends a call. A floating tensor joins the values; null (nothing appended) when the result would be large.
  Node* Call(const std::string& op, std::vector<Argument> args, Shape shape, DType dtype = DType::kF64);
  Node* With(Node* call, std::string_view name, Argument value);  // Sets an attribute; passes null on.
  // A call with several results of the given types, and one of them taken out.
  Node* Element(const std::string& op, std::vector<Argument> args, std::vector<Type> types, std::int64_t index);

 private:
  Random random_;
  const RuleTable& rules_;
  Graph& graph_;
  std::vector<Node*> values_;
};

inline const Shape& ShapeOf(const Node* x) { return x->type.shape; }
inline std::size_t RankOf(const Node* x) { return x->type.shape.size(); }
std::size_t DrawDim(ProgramBuilder& builder, std::size_t rank);
Shape Replaced(Shape shape, std::size_t dim, const Dim& size);
// a and b broadcast against each other; nothing when they do not fit.
std::optional<Shape> Broadcast(const Shape& a, const Shape& b);

// One random operation over x; null when none of the drawn kind fits.
Node* RandomOperation(ProgramBuilder& builder, Node* x);
// The same among those that models use less often.
Node* RareOperation(ProgramBuilder& builder, Node* x);

}  // namespace autosp::test
