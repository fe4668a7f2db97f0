// Operations that models use less often. Most are drawn only where the rule table knows them.
#include <algorithm>
#include <array>

#include "program_builder.h"

namespace autosp::test {
namespace {

using Builder = ProgramBuilder;

Node* SameShape(Builder& b, const Node* x) {
  Node* y = b.PickIf([&](const Node& other) { return &other != x && other.type.shape == x->type.shape; });
  if (y != nullptr) return y;
  const bool constant =
      std::all_of(ShapeOf(x).begin(), ShapeOf(x).end(), [](const Dim& dim) { return dim.is_constant(); });
  return constant ? b.Weight(ShapeOf(x)) : const_cast<Node*>(x);
}
Node* Index(Builder& b, const Dim& bound, Shape shape) {
  return b.Input("index" + std::to_string(std::min<std::int64_t>(b.Least(bound), 9)), DType::kI64, std::move(shape));
}

Node* Curve(Builder& b, Node* x) {
  const std::string op = b.OneOf({"aten.square", "aten.leaky_relu", "aten.elu", "aten.mish", "aten.hardtanh",
                                  "aten.expm1", "aten.atan", "aten.log_sigmoid", "aten.tan", "aten.sinc"});
  if (!b.Known(op)) return nullptr;
  Node* bounded = b.Call("aten.tanh", {x}, ShapeOf(x));
  return b.Call(op, {bounded}, ShapeOf(x));
}

// Variances and norms.
Node* Spread(Builder& b, Node* x) {
  const std::string op = b.OneOf({"aten.var.correction", "aten.std.correction", "aten.linalg_vector_norm",
                                  "aten.norm.ScalarOpt_dim", "aten.nansum"});
  if (RankOf(x) == 0 || !b.Known(op)) return nullptr;
  const std::size_t at = DrawDim(b, RankOf(x));
  if (b.Least(ShapeOf(x)[at]) < 2) return nullptr;
  const Argument::List dims = {static_cast<std::int64_t>(at)};
  const bool keep = b.OneIn(2);
  Shape shape = ShapeOf(x);
  shape[at] = 1;
  if (!keep) shape.erase(shape.begin() + static_cast<std::ptrdiff_t>(at));
  // Differentiable where all elements are equal.
  Node* apart = b.Call("aten.add.Tensor", {x, b.Weight({})}, ShapeOf(x));
  if (op == "aten.nansum") return b.Call(op, {x, dims, keep}, shape);
  if (op == "aten.linalg_vector_norm" || op == "aten.norm.ScalarOpt_dim")
    return b.Call(op, {apart, 2, dims, keep}, shape);
  if (op == "aten.std.correction") return nullptr;  // Not differentiable where all elements are equal.
  return b.With(b.With(b.Call(op, {x, dims}, shape), "correction", b.OneIn(2) ? 0 : 1), "keepdim", keep);
}

Node* Ordered(Builder& b, Node* x) {
  const std::string op = b.OneOf({"aten.sort", "aten.topk", "aten.cummax", "aten.cumprod", "aten.logcumsumexp"});
  if (RankOf(x) == 0 || !b.Known(op)) return nullptr;
  const std::size_t at = DrawDim(b, RankOf(x));
  const auto dim = static_cast<std::int64_t>(at);
  Shape shape = ShapeOf(x);
  if (op == "aten.cumprod" || op == "aten.logcumsumexp") return b.Call(op, {x, dim}, shape);
  std::vector<Argument> args = {x, dim};
  if (op == "aten.topk") {
    if (b.Least(shape[at]) < 2) return nullptr;
    args = {x, 2, dim};
    shape[at] = 2;
  }
  return b.Element(op, args, {Type::Tensor(DType::kF64, shape), Type::Tensor(DType::kI64, shape)}, 0);
}

Node* ByIndex(Builder& b, Node* x) {
  const std::string op = b.OneOf({"aten.gather", "aten.take_along_dim", "aten.scatter.src", "aten.scatter_add",
                                  "aten.index.Tensor", "aten.index_add"});
  if (RankOf(x) == 0 || !b.Known(op)) return nullptr;
  const std::size_t at = DrawDim(b, RankOf(x));
  const auto dim = static_cast<std::int64_t>(at);
  const Dim& size = ShapeOf(x)[at];
  if (op == "aten.gather") return b.Call(op, {x, dim, Index(b, size, ShapeOf(x))}, ShapeOf(x));
  if (op == "aten.take_along_dim") return b.Call(op, {x, Index(b, size, ShapeOf(x)), dim}, ShapeOf(x));
  if (op == "aten.index.Tensor") {
    const Dim count = 1 + b.Below(3);
    Argument::List indices(at);
    indices.emplace_back(Index(b, size, {count}));
    return b.Call(op, {x, indices}, Replaced(ShapeOf(x), at, count));
  }
  if (op == "aten.index_add") {
    const Dim count = std::min<std::int64_t>(2, b.Least(size));
    Node* part = b.Call("aten.slice.Tensor", {x, dim, 0, b.Value(count)}, Replaced(ShapeOf(x), at, count));
    return part == nullptr ? nullptr : b.Call(op, {x, dim, Index(b, size, {count}), part}, ShapeOf(x));
  }
  if (op == "aten.scatter.src") {  // Without repeats, or it would not be one result: each to its mirror.
    Node* range = b.Call("aten.arange", {b.Size(size)}, {size}, DType::kI64);
    Node* mirror = b.Call("aten.rsub.Scalar", {range, b.Size(size - 1)}, {size}, DType::kI64);
    Shape shape = {size};
    for (std::size_t i = at + 1; i < RankOf(x); ++i) {
      shape.emplace_back(1);
      mirror = b.Call("aten.unsqueeze", {mirror, -1}, shape, DType::kI64);
    }
    Node* index = b.Call("aten.expand", {mirror, b.SizeList(ShapeOf(x))}, ShapeOf(x), DType::kI64);
    return index == nullptr ? nullptr : b.Call(op, {x, dim, index, SameShape(b, x)}, ShapeOf(x));
  }
  return b.Call(op, {x, dim, Index(b, size, ShapeOf(x)), SameShape(b, x)}, ShapeOf(x));
}

Node* Einsum(Builder& b, Node* x) {
  if (!b.Known("aten.einsum") || RankOf(x) != 3) return nullptr;
  const Shape& s = ShapeOf(x);
  if (s[2].is_constant() && b.OneIn(2)) {
    return b.Call("aten.einsum", {"bsd,de->bse", Argument::List{x, b.Weight({s[2], 3})}}, {s[0], s[1], 3});
  }
  Node* y = b.PickIf([&](const Node& other) {
    return other.type.rank() == 3 && other.type.shape[0] == s[0] && other.type.shape[2] == s[2];
  });
  if (y == nullptr) return nullptr;
  Node* product = b.Call("aten.einsum", {"bsd,btd->bst", Argument::List{x, y}}, {s[0], s[1], ShapeOf(y)[1]});
  return product == nullptr ? nullptr : b.Call("aten.mul.Tensor", {product, 0.3}, ShapeOf(product));
}

Node* Windows(Builder& b, Node* x) {
  const std::size_t rank = RankOf(x);
  if (rank == 0) return nullptr;
  if (rank == 3 && b.OneIn(2)) {  // Channels are dim 1.
    if (!b.Known("aten.conv1d") || !ShapeOf(x)[1].is_constant()) return nullptr;
    const bool causal = b.OneIn(2), each = b.OneIn(3);
    const Dim channels = ShapeOf(x)[1], results = each ? channels : Dim(4);
    const std::int64_t step = 1 + b.Below(2);
    Node* y =
        b.Call("aten.conv1d",
               {x, b.Weight({results, each ? Dim(1) : channels, 3}), Argument(), Argument::List{1},
                Argument::List{causal ? 2 * step : step}, Argument::List{step}, each ? b.Size(channels) : Argument(1)},
               {ShapeOf(x)[0], results, causal ? ShapeOf(x)[2] + 2 * step : ShapeOf(x)[2]});
    if (y == nullptr || !causal) return y;
    return b.Call("aten.slice.Tensor", {y, 2, 0, -2 * step}, {ShapeOf(x)[0], results, ShapeOf(x)[2]});
  }
  if (!b.Known("aten.unfold")) return nullptr;
  const std::size_t at = DrawDim(b, rank);
  if (b.Least(ShapeOf(x)[at]) < 2) return nullptr;
  Shape shape = Replaced(ShapeOf(x), at, ShapeOf(x)[at] - 1);
  shape.emplace_back(2);
  return b.Call("aten.unfold", {x, static_cast<std::int64_t>(at), 2, 1}, shape);
}

// The neighbour's element, zeros at the end: by a pad, by a pad of a slice, by a join.
Node* Shifted(Builder& b, Node* x) {
  if (RankOf(x) == 0) return nullptr;
  const std::size_t at = DrawDim(b, RankOf(x));
  const auto dim = static_cast<std::int64_t>(at);
  const Dim& size = ShapeOf(x)[at];
  const std::int64_t by = 1 + b.Below(2);
  if (b.Least(size) <= by) return nullptr;
  const bool later = b.OneIn(2);
  const auto pads = [&](std::int64_t left, std::int64_t right) {
    Argument::List amounts(2 * (RankOf(x) - 1 - at), Argument(0));
    amounts.emplace_back(left);
    amounts.emplace_back(right);
    return amounts;
  };
  const std::int64_t way = b.Below(3);
  if (way == 0) return b.Call("aten.constant_pad_nd", {x, later ? pads(by, -by) : pads(-by, by), 0.0}, ShapeOf(x));
  const Argument start = later ? Argument(0) : Argument(by);
  const Argument end = later ? b.Size(size - by) : b.Size(size);
  Node* kept = b.Call("aten.slice.Tensor", {x, dim, start, end}, Replaced(ShapeOf(x), at, size - by));
  if (way == 1) return b.Call("aten.constant_pad_nd", {kept, later ? pads(by, 0) : pads(0, by), 0.0}, ShapeOf(x));
  const Shape edge = Replaced(ShapeOf(x), at, by);
  Node* part = b.Call("aten.slice.Tensor", {x, dim, 0, by}, edge);
  Node* zeros = b.Call("aten.zeros_like", {part}, edge);
  return b.Call("aten.cat", {later ? Argument::List{zeros, kept} : Argument::List{kept, zeros}, dim}, ShapeOf(x));
}

Node* ElementLoss(Builder& b, Node* x) {
  const std::string op = b.OneOf({"aten.mse_loss", "aten.l1_loss", "aten.smooth_l1_loss", "aten.huber_loss",
                                  "aten.binary_cross_entropy_with_logits", "aten.kl_div"});
  if (!b.Known(op)) return nullptr;
  Node* y = SameShape(b, x);
  if (y == x) y = b.Call("aten.zeros_like", {x}, ShapeOf(x));
  if (op == "aten.binary_cross_entropy_with_logits") y = b.Call("aten.sigmoid", {y}, ShapeOf(x));
  if (op == "aten.kl_div") y = b.Call("aten.exp", {b.Call("aten.tanh", {y}, ShapeOf(x))}, ShapeOf(x));
  const std::int64_t reduction = b.Below(3);
  std::vector<Argument> args = {x, y, reduction};
  if (op == "aten.binary_cross_entropy_with_logits") args = {x, y, Argument(), Argument(), reduction};
  return b.Call(op, args, reduction == 0 ? ShapeOf(x) : Shape{});
}

Node* Places(Builder& b, Node* x) {
  const std::size_t rank = RankOf(x);
  if (rank == 0) return nullptr;
  const std::size_t at = DrawDim(b, rank);
  const auto dim = static_cast<std::int64_t>(at);
  switch (b.Below(7)) {
    case 0: {
      if (!b.Known("aten.narrow") || b.Least(ShapeOf(x)[at]) < 2) return nullptr;
      return b.Call("aten.narrow", {x, dim, 1, b.Size(ShapeOf(x)[at] - 1)},
                    Replaced(ShapeOf(x), at, ShapeOf(x)[at] - 1));
    }
    case 1: {
      if (!b.Known("aten.movedim.int")) return nullptr;
      Shape shape = ShapeOf(x);
      const std::size_t to = DrawDim(b, rank);
      const Dim moved = shape[at];
      shape.erase(shape.begin() + dim);
      shape.insert(shape.begin() + static_cast<std::ptrdiff_t>(to), moved);
      return b.Call("aten.movedim.int", {x, dim, static_cast<std::int64_t>(to)}, shape);
    }
    case 2: {
      const auto half = ExactDiv(ShapeOf(x)[at], 2);
      if (!b.Known("aten.glu") || !half) return nullptr;
      return b.Call("aten.glu", {x, dim}, Replaced(ShapeOf(x), at, *half));
    }
    case 3: {
      if (!b.Known("aten.repeat")) return nullptr;
      Argument::List repeats(rank, Argument(1));
      repeats[at] = 2;
      return b.Call("aten.repeat", {x, repeats}, Replaced(ShapeOf(x), at, ShapeOf(x)[at] * 2));
    }
    case 4: {
      if (rank < 2 || rank > 3) return nullptr;
      Shape shape = ShapeOf(x);
      shape.back() = shape.back() + 2;
      return b.Call("aten.pad", {x, Argument::List{1, 1}, b.OneOf({"replicate", "circular"})}, shape);
    }
    case 5: {
      if (!b.Known("aten.group_norm") || rank < 2 || rank > 3 || !ShapeOf(x)[1].is_constant() ||
          b.Value(ShapeOf(x)[1]) < 2)
        return nullptr;
      return b.Call("aten.group_norm", {x, 1, b.Weight({ShapeOf(x)[1]}), b.Weight({ShapeOf(x)[1]}), 0.01}, ShapeOf(x));
    }
    default: {
      Node* y = b.PickIf([&](const Node& other) {
        return other.type.shape != ShapeOf(x) && Product(other.type.shape) == Product(ShapeOf(x));
      });
      if (y == nullptr) return nullptr;
      return b.Call("aten.view_as", {b.Call("aten.contiguous", {x}, ShapeOf(x)), y}, ShapeOf(y));
    }
  }
}

constexpr std::array<Node* (*)(Builder&, Node*), 9> kKinds = {Curve,   Spread,  Ordered,     ByIndex, Einsum,
                                                              Windows, Shifted, ElementLoss, Places};

}  // namespace

Node* RareOperation(Builder& b, Node* x) { return kKinds[static_cast<std::size_t>(b.Below(kKinds.size()))](b, x); }

}  // namespace autosp::test
