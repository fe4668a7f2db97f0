#include "program_builder.h"

#include <algorithm>

namespace autosp::test {

std::int64_t ProgramBuilder::Least(const Dim& dim) const {
  std::int64_t least = Value(dim);
  for (const Sizes& sizes : runs) least = std::min(least, dim.Evaluate(sizes).value_or(1));
  return least;
}

std::int64_t ProgramBuilder::Count(const Shape& shape) const {
  std::int64_t count = 1;
  for (const Sizes& sizes : runs) {
    std::int64_t product = 1;
    for (const Dim& dim : shape) product *= dim.Evaluate(sizes).value_or(1);
    count = std::max(count, product);
  }
  return count;
}

Node* ProgramBuilder::Pick() {
  const auto count = static_cast<std::int64_t>(values_.size());
  if (OneIn(2)) return values_.back();
  const std::int64_t back = std::min(Below(count), Below(count));
  return values_[static_cast<std::size_t>(count - 1 - back)];
}

Node* ProgramBuilder::PickIf(const std::function<bool(const Node&)>& test) {
  std::vector<Node*> fitting;
  for (Node* value : values_) {
    if (test(*value)) fitting.push_back(value);
  }
  return fitting.empty() ? nullptr
                         : fitting[static_cast<std::size_t>(Below(static_cast<std::int64_t>(fitting.size())))];
}

Node* ProgramBuilder::Input(const std::string& name, DType dtype, Shape shape, int seq_dim) {
  Node* input = graph_.AddInput(name, Type::Tensor(dtype, std::move(shape)));
  input->seq_dim = seq_dim;
  return input;
}

Node* ProgramBuilder::Weight(Shape shape) {
  Node* weight = Input("w", DType::kF64, std::move(shape));
  weight->type.requires_grad = true;
  return weight;
}

Argument ProgramBuilder::Size(const Dim& dim) {
  if (const auto constant = dim.constant()) return *constant;
  if (OneIn(8)) {  // As code does that asks the hidden state for its length.
    for (Node* value : values_) {
      for (int i = 0; i < value->type.rank(); ++i) {
        if (value->type.shape[static_cast<std::size_t>(i)] == dim) {
          return graph_.AddCall("size", "aten.sym_size.int", {value, i}, Type::Int(dim));
        }
      }
    }
  }
  return SymBuilder(graph_).Materialize(dim).value();
}

Argument::List ProgramBuilder::SizeList(const Shape& shape) {
  Argument::List sizes;
  for (const Dim& dim : shape) sizes.push_back(Size(dim));
  return sizes;
}

Node* ProgramBuilder::Call(const std::string& op, std::vector<Argument> args, Shape shape, DType dtype) {
  if (!Small(shape)) return nullptr;
  const std::size_t begin = op.find('.') + 1;
  Node* call = graph_.AddCall(op.substr(begin, op.find('.', begin) - begin), op, std::move(args),
                              Type::Tensor(dtype, std::move(shape)));
  call->provenance.location = {"model.py", static_cast<int>(graph_.size()), "forward"};
  if (dtype == DType::kF64) values_.push_back(call);
  return call;
}

Node* ProgramBuilder::With(Node* call, std::string_view name, Argument value) {
  if (call != nullptr) call->set_attribute(name, std::move(value));
  return call;
}

Node* ProgramBuilder::Element(const std::string& op, std::vector<Argument> args, std::vector<Type> types,
                              std::int64_t index) {
  const Type type = types[static_cast<std::size_t>(index)];
  if (!Small(type.shape)) return nullptr;
  Node* tuple = graph_.AddCall("parts", op, std::move(args), Type::Tuple(std::move(types)));
  return Call("builtin.getitem", {tuple, index}, type.shape, type.dtype);
}

std::size_t DrawDim(ProgramBuilder& builder, std::size_t rank) {
  return static_cast<std::size_t>(builder.Below(static_cast<std::int64_t>(rank)));
}

Shape Replaced(Shape shape, std::size_t dim, const Dim& size) {
  shape[dim] = size;
  return shape;
}

std::optional<Shape> Broadcast(const Shape& a, const Shape& b) {
  const std::size_t rank = std::max(a.size(), b.size());
  Shape result(rank, Dim(1));
  for (std::size_t i = 0; i < rank; ++i) {
    const Dim left = i + a.size() < rank ? Dim(1) : a[i + a.size() - rank];
    const Dim right = i + b.size() < rank ? Dim(1) : b[i + b.size() - rank];
    if (!left.is_one() && !right.is_one() && left != right) return std::nullopt;
    result[i] = left.is_one() ? right : left;
  }
  return result;
}

}  // namespace autosp::test
