// The single operations of random programs: each takes a value of any shape and draws what it needs besides.
#include <algorithm>
#include <array>
#include <limits>
#include <numeric>

#include "program_builder.h"

namespace autosp::test {
namespace {

using Builder = ProgramBuilder;

// As users write it: from the front or from the back.
std::int64_t Written(Builder& b, std::size_t dim, std::size_t rank) {
  return b.OneIn(2) ? static_cast<std::int64_t>(dim) : static_cast<std::int64_t>(dim) - static_cast<std::int64_t>(rank);
}

// A weight that broadcasts against a value of this shape.
Node* BroadcastWeight(Builder& b, const Shape& shape) {
  Shape own = shape;
  for (Dim& dim : own) {
    if (!dim.is_constant() || b.OneIn(4)) dim = 1;
  }
  while (!own.empty() && b.OneIn(3)) own.erase(own.begin());
  return b.Weight(own);
}

Node* Partner(Builder& b, const Node* x) {
  if (b.OneIn(3)) return BroadcastWeight(b, ShapeOf(x));
  Node* found = b.PickIf([&](const Node& y) { return &y != x && Broadcast(ShapeOf(x), y.type.shape).has_value(); });
  return found != nullptr ? found : BroadcastWeight(b, ShapeOf(x));
}

Node* Unary(Builder& b, Node* x) {
  const char* op = b.OneOf({"aten.tanh", "aten.sigmoid", "aten.gelu", "aten.silu", "aten.sin", "aten.cos", "aten.neg",
                            "aten.relu", "aten.abs", "aten.softplus", "aten.clone", "aten.contiguous", "aten.erf"});
  if (b.OneIn(30)) op = "aten.detach";
  return b.Call(op, {x}, ShapeOf(x));
}

Node* WithNumber(Builder& b, Node* x) {
  switch (b.Below(6)) {
    case 0:
      return b.Call("aten.mul.Tensor", {x, 0.5}, ShapeOf(x));
    case 1:
      return b.Call("aten.add.Tensor", {x, 0.25}, ShapeOf(x));
    case 2:
      return b.Call("aten.pow.Tensor_Scalar", {x, 2}, ShapeOf(x));
    case 3:
      return b.Call("aten.rsub.Scalar", {x, 1.0}, ShapeOf(x));
    case 4:
      return b.Call("aten.clamp", {x, -0.6, 0.6}, ShapeOf(x));
    default: {  // A size used as a number: that of the whole value, on every rank.
      const Argument size = b.Size(ShapeOf(x).empty() ? Dim(3) : ShapeOf(x)[DrawDim(b, RankOf(x))]);
      return b.Call("aten.div.Tensor", {x, size}, ShapeOf(x));
    }
  }
}

Node* Binary(Builder& b, Node* x) {
  Node* y = Partner(b, x);
  const auto shape = Broadcast(ShapeOf(x), ShapeOf(y));
  if (!shape || !b.Small(*shape)) return nullptr;
  switch (b.Below(8)) {
    case 0:
    case 1:
      return b.Call("aten.mul.Tensor", {x, y}, *shape);
    case 2:
      return b.Call("aten.sub.Tensor", {x, y}, *shape);
    case 3:
      return b.Call(b.OneIn(2) ? "aten.maximum" : "aten.minimum", {x, y}, *shape);
    case 4: {
      Node* square = b.Call("aten.mul.Tensor", {y, y}, ShapeOf(y));
      Node* positive = b.Call("aten.add.Tensor", {square, 1.0}, ShapeOf(y));
      return b.Call("aten.div.Tensor", {x, positive}, *shape);
    }
    case 5: {
      Node* mask = b.Call("aten.gt.Scalar", {y, 0.05}, ShapeOf(y), DType::kBool);
      return b.Call("aten.where.self", {mask, x, y}, *shape);
    }
    case 6: {
      if (Broadcast(ShapeOf(x), ShapeOf(y)) != ShapeOf(x)) return nullptr;
      Node* mask = b.Call("aten.lt.Tensor", {x, y}, ShapeOf(x), DType::kBool);
      return b.Call("aten.masked_fill.Scalar", {x, mask, 0.3}, ShapeOf(x));
    }
    default:
      return b.Call("aten.add.Tensor", {x, y}, *shape);
  }
}

Node* Linear(Builder& b, Node* x) {
  if (RankOf(x) == 0 || !ShapeOf(x).back().is_constant()) return nullptr;
  const Dim k = ShapeOf(x).back();
  const Dim n = b.OneOf<std::int64_t>({2, 3, 4, 6, b.Value(k)});
  const Shape shape = Replaced(ShapeOf(x), RankOf(x) - 1, n);
  if (!b.Small(shape)) return nullptr;
  if (RankOf(x) == 2 && b.OneIn(2)) {
    if (b.OneIn(2)) return b.Call("aten.mm", {x, b.Weight({k, n})}, shape);
    return b.Call("aten.addmm", {b.Weight({n}), x, b.Weight({k, n})}, shape);
  }
  if (RankOf(x) >= 2 && b.OneIn(3)) return b.Call("aten.matmul", {x, b.Weight({k, n})}, shape);
  std::vector<Argument> args = {x, b.Weight({n, k})};
  if (b.OneIn(3)) args.push_back(b.Weight({n}));
  return b.Call("aten.linear", std::move(args), shape);
}

// x (.., m, k) times y (.., n, k) transposed, or times y (.., k, n).
Node* Product(Builder& b, Node* x) {
  const std::size_t rank = RankOf(x);
  if (rank < 2) return nullptr;
  const bool transposed = b.OneIn(2);
  Node* y = b.PickIf([&](const Node& other) {
    const Shape& shape = other.type.shape;
    if (shape.size() != rank || !std::equal(shape.begin(), shape.end() - 2, ShapeOf(x).begin())) return false;
    return shape[rank - (transposed ? 1 : 2)] == ShapeOf(x).back();
  });
  if (y == nullptr) return nullptr;
  Shape shape = ShapeOf(x);
  shape.back() = ShapeOf(y)[rank - (transposed ? 2 : 1)];
  if (!b.Small(shape)) return nullptr;
  if (transposed) {
    Shape turned = ShapeOf(y);
    std::swap(turned[rank - 1], turned[rank - 2]);
    y = b.Call("aten.transpose.int", {y, -2, -1}, turned);
  }
  const char* op = rank == 3 && b.OneIn(2) ? "aten.bmm" : rank == 2 ? "aten.mm" : "aten.matmul";
  Node* product = b.Call(op, {x, y}, shape);
  if (rank == 3 && b.OneIn(4)) product = b.Call("aten.baddbmm", {product, x, y}, shape);
  return b.Call("aten.mul.Tensor", {product, 0.3}, shape);
}

Node* Merge(Builder& b, Node* x) {
  const std::size_t rank = RankOf(x);
  if (rank < 2) return nullptr;
  const std::size_t at = DrawDim(b, rank - 1);
  Shape shape = ShapeOf(x);
  shape[at] = shape[at] * shape[at + 1];
  shape.erase(shape.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  if (b.OneIn(3)) {
    return b.Call("aten.flatten.using_ints", {x, static_cast<std::int64_t>(at), static_cast<std::int64_t>(at) + 1},
                  shape);
  }
  Argument::List sizes = b.SizeList(shape);
  if (b.OneIn(2)) sizes[DrawDim(b, sizes.size())] = -1;
  return b.Call(b.OneIn(2) ? "aten.view" : "aten.reshape", {x, sizes}, shape);
}

// A divisor of a size that is neither 1 nor the size itself, drawn among several; nothing for a prime.
std::optional<Dim> DrawDivisor(Builder& b, const Dim& size) {
  std::vector<Dim> divisors;
  for (const std::int64_t number : {2, 3, 4, 5, 6}) {
    if (const auto rest = ExactDiv(size, number); rest && !rest->is_one())
      divisors.insert(divisors.end(), {Dim(number), *rest});
  }
  if (divisors.empty()) return std::nullopt;
  return divisors[DrawDim(b, divisors.size())];
}

Node* Split(Builder& b, Node* x) {
  if (RankOf(x) == 0 || RankOf(x) > 4) return nullptr;
  const std::size_t at = DrawDim(b, RankOf(x));
  const std::optional<Dim> divisor = DrawDivisor(b, ShapeOf(x)[at]);
  if (!divisor) return nullptr;
  Shape shape = ShapeOf(x);
  shape[at] = *ExactDiv(shape[at], *divisor);
  shape.insert(shape.begin() + static_cast<std::ptrdiff_t>(at), *divisor);
  if (b.OneIn(4)) {
    return b.Call("aten.unflatten.int", {x, Written(b, at, RankOf(x)), b.SizeList({shape[at], shape[at + 1]})}, shape);
  }
  Argument::List sizes = b.SizeList(shape);
  if (b.OneIn(2)) sizes[DrawDim(b, sizes.size())] = -1;
  return b.Call(b.OneIn(2) ? "aten.view" : "aten.reshape", {x, sizes}, shape);
}

// All dims together, then cut otherwise: what no layout survives, and what some do.
Node* Regroup(Builder& b, Node* x) {
  if (RankOf(x) == 0) return nullptr;
  const Dim all = Product(ShapeOf(x));
  const std::optional<Dim> first = DrawDivisor(b, all);
  Shape shape = first ? Shape{*first, *ExactDiv(all, *first)} : Shape{all};
  if (b.OneIn(2)) shape = {*ExactDiv(all, ShapeOf(x).back()), ShapeOf(x).back()};
  Argument::List sizes = b.SizeList(shape);
  if (b.OneIn(2)) sizes[DrawDim(b, sizes.size())] = -1;
  return b.Call("aten.reshape", {x, sizes}, shape);
}

Node* Turn(Builder& b, Node* x) {
  const std::size_t rank = RankOf(x);
  if (rank < 2) return nullptr;
  Shape shape = ShapeOf(x);
  if (b.OneIn(2)) {
    const std::size_t first = DrawDim(b, rank);
    const std::size_t second = DrawDim(b, rank);
    std::swap(shape[first], shape[second]);
    return b.Call("aten.transpose.int", {x, Written(b, first, rank), Written(b, second, rank)}, shape);
  }
  Argument::List dims;
  std::vector<std::int64_t> order(rank);
  std::iota(order.begin(), order.end(), 0);
  for (std::size_t i = rank; i > 1; --i) std::swap(order[i - 1], order[DrawDim(b, i)]);
  for (std::size_t i = 0; i < rank; ++i) {
    shape[i] = ShapeOf(x)[static_cast<std::size_t>(order[i])];
    dims.emplace_back(order[i]);
  }
  return b.Call("aten.permute", {x, dims}, shape);
}

Node* OnesAndCopies(Builder& b, Node* x) {
  const std::size_t rank = RankOf(x);
  Shape shape = ShapeOf(x);
  const std::size_t at = DrawDim(b, rank + 1);
  switch (b.Below(5)) {
    case 0:
      shape.insert(shape.begin() + static_cast<std::ptrdiff_t>(at), Dim(1));
      return b.Call("aten.unsqueeze", {x, Written(b, at, rank + 1)}, shape);
    case 1: {  // A new leading dim of copies.
      shape.insert(shape.begin(), b.OneIn(3) ? Dim(b.Value(Dim(2))) : Dim(3));
      return b.Call("aten.expand", {x, b.SizeList(shape)}, shape);
    }
    case 2: {  // A dim of 1 becomes copies.
      shape.insert(shape.begin() + static_cast<std::ptrdiff_t>(at), Dim(1));
      Node* one = b.Call("aten.unsqueeze", {x, static_cast<std::int64_t>(at)}, shape);
      shape[at] = !b.OneIn(3) || rank == 0 ? Dim(2) : ShapeOf(x)[DrawDim(b, rank)];
      if (one == nullptr || !b.Small(shape)) return one;
      Argument::List sizes = b.SizeList(shape);
      for (std::size_t i = 0; i < sizes.size(); ++i) {
        if (i != at && b.OneIn(3)) sizes[i] = -1;
      }
      return b.Call("aten.expand", {one, sizes}, shape);
    }
    case 3: {
      if (rank == 0) return nullptr;
      const std::size_t dim = DrawDim(b, rank);
      return b.Call("aten.repeat_interleave.self_int", {x, 2, static_cast<std::int64_t>(dim)},
                    Replaced(shape, dim, shape[dim] * 2));
    }
    default: {
      for (std::size_t i = 0; i < rank; ++i) {
        if (!shape[i].is_one()) continue;
        shape.erase(shape.begin() + static_cast<std::ptrdiff_t>(i));
        return b.Call("aten.squeeze.dim", {x, static_cast<std::int64_t>(i)}, shape);
      }
      return nullptr;
    }
  }
}

Node* Norm(Builder& b, Node* x) {
  std::size_t trailing = 0;
  while (trailing < std::min<std::size_t>(2, RankOf(x)) && ShapeOf(x)[RankOf(x) - 1 - trailing].is_constant())
    ++trailing;
  if (trailing == 0 || b.Value(ShapeOf(x).back()) < 2) return nullptr;
  if (b.OneIn(3)) trailing = 1;
  const Shape last(ShapeOf(x).end() - static_cast<std::ptrdiff_t>(trailing), ShapeOf(x).end());
  if (b.OneIn(2)) return b.Call("aten.rms_norm", {x, b.SizeList(last), b.Weight(last), 0.01}, ShapeOf(x));
  std::vector<Argument> args = {x, b.SizeList(last), b.Weight(last)};
  args.emplace_back(b.OneIn(2) ? Argument(b.Weight(last)) : Argument());
  args.emplace_back(0.01);
  return b.Call("aten.layer_norm", std::move(args), ShapeOf(x));
}

Node* Softmax(Builder& b, Node* x) {
  if (RankOf(x) == 0) return nullptr;
  const char* op = b.OneIn(3) ? "aten.log_softmax.int" : "aten.softmax.int";
  return b.Call(op, {x, Written(b, DrawDim(b, RankOf(x)), RankOf(x))}, ShapeOf(x));
}

Node* Reduction(Builder& b, Node* x) {
  const std::size_t rank = RankOf(x);
  if (rank == 0) return nullptr;
  if (b.OneIn(12)) return b.Call(b.OneIn(2) ? "aten.sum" : "aten.mean", {x}, {});
  std::vector<bool> reduced(rank, false);
  reduced[DrawDim(b, rank)] = true;
  const char* op = b.OneOf({"aten.sum.dim_IntList", "aten.mean.dim", "aten.amax", "aten.amin", "aten.logsumexp",
                            "aten.max.dim", "aten.prod.dim_int", "aten.sum.dim_IntList", "aten.mean.dim"});
  const std::string_view name = op;
  const bool several = name != "aten.max.dim" && name != "aten.prod.dim_int";
  if (several && rank > 1 && b.OneIn(4)) reduced[DrawDim(b, rank)] = true;
  const bool keep = b.OneIn(2);
  Argument::List dims;
  Shape shape;
  for (std::size_t dim = 0; dim < rank; ++dim) {
    if (reduced[dim]) dims.emplace_back(Written(b, dim, rank));
    if (reduced[dim] && keep) shape.emplace_back(1);
    if (!reduced[dim]) shape.push_back(ShapeOf(x)[dim]);
  }
  if (name == "aten.max.dim") {
    return b.Element(op, {x, dims.front(), keep}, {Type::Tensor(DType::kF64, shape), Type::Tensor(DType::kI64, shape)},
                     0);
  }
  return b.Call(op, {x, several ? Argument(dims) : dims.front(), keep}, shape);
}

constexpr std::int64_t kToTheEnd = std::numeric_limits<std::int64_t>::max();

// Everything but the first or the last; with zeros (or a copy) at the free end it has the old length.
Node* Shift(Builder& b, Node* x) {
  const std::size_t rank = RankOf(x);
  if (rank == 0) return nullptr;
  const std::size_t at = DrawDim(b, rank);
  const Dim size = ShapeOf(x)[at];
  if (b.Least(size) < 2) return nullptr;
  const auto dim = static_cast<std::int64_t>(at);
  const Shape shorter = Replaced(ShapeOf(x), at, size - 1);
  const bool drop_last = b.OneIn(2);
  const Argument end = b.OneIn(2) && size.is_constant() ? Argument(-1) : b.Size(size - 1);
  Node* part = drop_last ? b.Call("aten.slice.Tensor", {x, dim, 0, end}, shorter)
                         : b.Call("aten.slice.Tensor", {x, dim, 1, kToTheEnd}, shorter);
  if (part == nullptr || b.OneIn(5)) return part;
  if (b.OneIn(2)) {
    Argument::List pads(2 * (rank - at), Argument(0));
    pads[pads.size() - (drop_last ? 2 : 1)] = 1;
    return b.Call("aten.pad", {part, pads, "constant", 0.0}, ShapeOf(x));
  }
  Node* end_piece = b.Call("aten.slice.Tensor", {x, dim, 0, 1}, Replaced(ShapeOf(x), at, 1));
  Argument::List pieces = {part, end_piece};
  if (drop_last) std::swap(pieces[0], pieces[1]);
  return b.Call("aten.cat", {pieces, dim}, ShapeOf(x));
}

Node* Mixing(Builder& b, Node* x) {
  const std::size_t rank = RankOf(x);
  if (rank == 0) return nullptr;
  const std::size_t at = DrawDim(b, rank);
  const auto dim = static_cast<std::int64_t>(at);
  switch (b.Below(8)) {
    case 0:
      return b.Call("aten.roll", {x, Argument::List{b.OneOf({1, -1, 2})}, Argument::List{Written(b, at, rank)}},
                    ShapeOf(x));
    case 1:
      return b.Call("aten.mul.Tensor", {b.Call("aten.cumsum", {x, dim}, ShapeOf(x)), 0.5}, ShapeOf(x));
    case 2:
      return b.Call("aten.flip", {x, Argument::List{Written(b, at, rank)}}, ShapeOf(x));
    case 3: {
      Node* index = b.Input("index" + std::to_string(std::min<std::int64_t>(b.Least(ShapeOf(x)[at]), 9)), DType::kI64,
                            {Dim(1 + b.Below(3))});
      return b.Call("aten.index_select", {x, dim, index}, Replaced(ShapeOf(x), at, index->type.shape[0]));
    }
    case 4: {  // The reversal, by index.
      Node* range = b.Call("aten.arange", {b.Size(ShapeOf(x)[at])}, {ShapeOf(x)[at]}, DType::kI64);
      Node* reversed = b.Call("aten.rsub.Scalar", {range, b.Size(ShapeOf(x)[at] - 1)}, {ShapeOf(x)[at]}, DType::kI64);
      return b.Call("aten.index_select", {x, dim, reversed}, ShapeOf(x));
    }
    case 5: {
      Shape shape = ShapeOf(x);
      shape.erase(shape.begin() + dim);
      return b.Call("aten.select.int", {x, Written(b, at, rank), b.OneIn(2) ? 0 : -1}, shape);
    }
    case 6:
      if (rank < 2) return nullptr;
      return b.Call(b.OneIn(2) ? "aten.tril" : "aten.triu", {x, b.Below(3) - 1}, ShapeOf(x));
    default:
      if (!b.Known("aten.gather")) return nullptr;
      return b.Call("aten.gather",
                    {x, dim,
                     b.Input("index" + std::to_string(std::min<std::int64_t>(b.Least(ShapeOf(x)[at]), 9)), DType::kI64,
                             ShapeOf(x))},
                    ShapeOf(x));
  }
}

Node* Parts(Builder& b, Node* x) {
  const std::size_t rank = RankOf(x);
  if (rank == 0) return nullptr;
  const std::size_t at = DrawDim(b, rank);
  const Dim size = ShapeOf(x)[at];
  const auto dim = static_cast<std::int64_t>(at);
  const auto piece = [&](const Dim& length) { return Type::Tensor(DType::kF64, Replaced(ShapeOf(x), at, length)); };
  if (b.Least(size) < 2) return nullptr;
  switch (b.Below(4)) {
    case 0: {
      const auto half = ExactDiv(size, 2);
      if (!half) return nullptr;
      const bool chunk = b.OneIn(2);
      if (!chunk && !half->is_constant()) return nullptr;
      return b.Element(chunk ? "aten.chunk" : "aten.split.Tensor", {x, chunk ? Argument(2) : b.Size(*half), dim},
                       {piece(*half), piece(*half)}, b.Below(2));
    }
    case 1:
      return b.Element("aten.split_with_sizes", {x, Argument::List{1, b.Size(size - 1)}, dim},
                       {piece(1), piece(size - 1)}, b.Below(2));
    case 2: {
      if (!size.is_constant() || b.Value(size) > 4) return nullptr;
      Shape shape = ShapeOf(x);
      shape.erase(shape.begin() + dim);
      return b.Element("aten.unbind.int", {x, dim},
                       std::vector<Type>(static_cast<std::size_t>(b.Value(size)), Type::Tensor(DType::kF64, shape)),
                       b.Below(b.Value(size)));
    }
    default: {
      if (b.Least(size) < 3) return nullptr;
      return b.Call("aten.slice.Tensor", {x, dim, 1, b.Size(size - 1)}, Replaced(ShapeOf(x), at, size - 2));
    }
  }
}

Node* Join(Builder& b, Node* x) {
  const std::size_t rank = RankOf(x);
  if (rank == 0) return nullptr;
  const std::size_t at = DrawDim(b, rank);
  const bool stack = b.OneIn(3);
  Node* y = b.PickIf([&](const Node& other) {
    if (other.type.rank() != static_cast<int>(rank)) return false;
    for (std::size_t i = 0; i < rank; ++i) {
      if ((i != at || stack) && other.type.shape[i] != ShapeOf(x)[i]) return false;
    }
    return true;
  });
  if (y == nullptr) return nullptr;
  if (!stack) {
    return b.Call("aten.cat", {Argument::List{x, y}, Written(b, at, rank)},
                  Replaced(ShapeOf(x), at, ShapeOf(x)[at] + ShapeOf(y)[at]));
  }
  Shape shape = ShapeOf(x);
  shape.insert(shape.begin() + static_cast<std::ptrdiff_t>(at), Dim(2));
  return b.Call("aten.stack", {Argument::List{x, y}, Written(b, at, rank + 1)}, shape);
}

// Positions along one dim, as a number that is added or as an angle.
Node* ByPosition(Builder& b, Node* x) {
  const std::size_t rank = RankOf(x);
  if (rank == 0) return nullptr;
  const std::size_t at = DrawDim(b, rank);
  const Dim size = ShapeOf(x)[at];
  Node* range = b.Call("aten.arange", {b.Size(size)}, {size}, DType::kI64);
  Node* number = b.Call("aten.to.dtype", {range, Argument::Dtype(DType::kF64)}, {size});
  Node* scaled = b.Call("aten.mul.Tensor", {number, 0.3}, {size});
  Node* angle = b.Call(b.OneIn(2) ? "aten.cos" : "aten.sin", {scaled}, {size});
  Shape shape = {size};
  for (std::size_t i = at + 1; i < rank; ++i) {
    shape.emplace_back(1);
    angle = b.Call("aten.unsqueeze", {angle, -1}, shape);
  }
  return b.Call(b.OneIn(2) ? "aten.mul.Tensor" : "aten.add.Tensor", {x, angle}, ShapeOf(x));
}

Node* Rare(Builder& b, Node* x) {
  const std::size_t rank = RankOf(x);
  switch (b.Below(7)) {
    case 0:
      return b.Call("aten.exp", {b.Call("aten.tanh", {x}, ShapeOf(x))}, ShapeOf(x));
    case 1: {
      Node* square = b.Call("aten.mul.Tensor", {x, x}, ShapeOf(x));
      return b.Call("aten.rsqrt", {b.Call("aten.add.Tensor", {square, 1.0}, ShapeOf(x))}, ShapeOf(x));
    }
    case 2:
      return b.Call("aten.dropout", {x, 0.0, true}, ShapeOf(x));
    case 3:
      return b.Call("aten.addcmul", {x, BroadcastWeight(b, ShapeOf(x)), BroadcastWeight(b, ShapeOf(x))}, ShapeOf(x));
    case 4:
      if (rank == 0 || !b.Known("aten.var.correction")) return nullptr;
      return b.With(b.With(b.Call("aten.var.correction", {x, Argument::List{static_cast<std::int64_t>(rank) - 1}},
                                  Replaced(ShapeOf(x), rank - 1, 1)),
                           "correction", 0),
                    "keepdim", true);
    case 5: {
      if (!b.Known("aten.repeat")) return nullptr;
      Shape shape = ShapeOf(x);
      shape.insert(shape.begin(), Dim(2));
      return b.Call("aten.repeat",
                    {x,
                     [&] {
                       Argument::List repeats(rank + 1, Argument(1));
                       repeats[0] = 2;
                       return repeats;
                     }()},
                    shape);
    }
    default: {
      Node* y = b.PickIf([&](const Node& other) {
        return other.type.rank() <= static_cast<int>(rank) && Broadcast(other.type.shape, ShapeOf(x)) == ShapeOf(x);
      });
      return y == nullptr ? nullptr : b.Call("aten.expand_as", {y, x}, ShapeOf(x));
    }
  }
}

struct Kind {
  int weight;
  Node* (*make)(Builder&, Node*);
};

constexpr std::array<Kind, 20> kKinds = {
    {{6, Unary},   {3, WithNumber}, {7, Binary},        {7, Linear},     {6, Product}, {4, Merge},        {4, Split},
     {2, Regroup}, {5, Turn},       {3, OnesAndCopies}, {3, Norm},       {3, Softmax}, {5, Reduction},    {4, Shift},
     {4, Mixing},  {3, Parts},      {3, Join},          {2, ByPosition}, {2, Rare},    {6, RareOperation}}};

}  // namespace

Node* RandomOperation(Builder& b, Node* x) {
  int total = 0;
  for (const Kind& kind : kKinds) total += kind.weight;
  std::int64_t draw = b.Below(total);
  for (const Kind& kind : kKinds) {
    if (draw < kind.weight) return kind.make(b, x);
    draw -= kind.weight;
  }
  return nullptr;
}

}  // namespace autosp::test
