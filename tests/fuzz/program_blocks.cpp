#include "program_blocks.h"

#include <limits>

namespace autosp::test {
namespace {

using Builder = ProgramBuilder;
constexpr std::int64_t kToTheEnd = std::numeric_limits<std::int64_t>::max();

bool IsHidden(const Node& x) {
  return x.type.rank() == 3 && x.type.shape[2].is_constant() && !x.type.shape[2].is_one();
}

// [b, s, d] -> [b, heads, s, e]
Node* Heads(Builder& b, Node* x, std::int64_t heads, std::int64_t size) {
  const Dim& batch = x->type.shape[0];
  const Dim& length = x->type.shape[1];
  Node* flat = b.Call("aten.linear", {x, b.Weight({heads * size, x->type.shape[2]})}, {batch, length, heads * size});
  if (flat == nullptr) return nullptr;
  const Shape shape = {batch, length, heads, size};
  Argument::List sizes = b.SizeList(shape);
  sizes[static_cast<std::size_t>(b.Below(2)) + 2] = -1;
  Node* split = b.Call("aten.view", {flat, sizes}, shape);
  return b.Call("aten.transpose.int", {split, 1, 2}, {batch, heads, length, size});
}

// x * cos + turned(x) * sin, by position: all of whole tables, then halves put together.
Node* Rotary(Builder& b, const ProgramInputs& inputs, Node* x) {
  const Shape shape = x->type.shape;
  const std::int64_t size = b.Value(shape[3]);
  if (size % 2 != 0) return x;
  Node* positions = nullptr;
  Shape angles = {Dim(1), Dim(1), shape[2], shape[3]};
  if (inputs.positions != nullptr && inputs.batch_first && shape[0] == inputs.batch && shape[2] == inputs.length) {
    positions = b.Call("aten.unsqueeze", {inputs.positions, 1}, {shape[0], 1, shape[2]}, DType::kI64);
    positions = b.Call("aten.unsqueeze", {positions, -1}, {shape[0], 1, shape[2], 1}, DType::kI64);
    angles[0] = shape[0];
  } else {
    positions = b.Call("aten.arange", {b.Size(shape[2])}, {shape[2]}, DType::kI64);
    positions = b.Call("aten.view", {positions, Argument::List{1, 1, -1, 1}}, {1, 1, shape[2], 1}, DType::kI64);
  }
  const Shape column = positions->type.shape;
  Node* number = b.Call("aten.to.dtype", {positions, Argument::Dtype(DType::kF64)}, column);
  Node* scales = b.Input("scales", DType::kF64, {shape[3]});
  Node* angle = b.Call("aten.mul.Tensor", {number, scales}, angles);
  Node* straight = b.Call("aten.mul.Tensor", {x, b.Call("aten.cos", {angle}, angles)}, shape);
  const Shape half = {shape[0], shape[1], shape[2], size / 2};
  Node* first = b.Call("aten.slice.Tensor", {x, 3, 0, size / 2}, half);
  Node* second = b.Call("aten.slice.Tensor", {x, -1, size / 2, kToTheEnd}, half);
  Node* minus = b.Call("aten.neg", {second}, half);
  Node* turned = b.Call("aten.cat", {Argument::List{minus, first}, -1}, shape);
  Node* crossed = b.Call("aten.mul.Tensor", {turned, b.Call("aten.sin", {angle}, angles)}, shape);
  return b.Call("aten.add.Tensor", {straight, crossed}, shape);
}

// Which keys a query sees, true where it does: causal, in a window, or the mask of the batch; null for all.
Node* VisibleKeys(Builder& b, const ProgramInputs& inputs, const Dim& batch, const Dim& queries, const Dim& keys) {
  Node* visible = nullptr;
  if (queries == keys && !b.OneIn(3)) {
    if (b.OneIn(2)) {
      Node* ones = b.With(b.Call("aten.ones", {b.SizeList({queries, keys})}, {queries, keys}, DType::kBool), "dtype",
                          Argument::Dtype(DType::kBool));
      visible = b.Call("aten.tril", {ones}, {queries, keys}, DType::kBool);
    } else {
      Node* at = b.Call("aten.arange", {b.Size(queries)}, {queries}, DType::kI64);
      Node* column = b.Call("aten.unsqueeze", {at, 1}, {queries, 1}, DType::kI64);
      Node* distance = b.Call("aten.sub.Tensor", {column, at}, {queries, keys}, DType::kI64);
      Node* past = b.Call("aten.ge.Scalar", {distance, 0}, {queries, keys}, DType::kBool);
      Node* near = b.Call("aten.lt.Scalar", {distance, 1 + b.Below(4)}, {queries, keys}, DType::kBool);
      visible = b.Call("aten.logical_and", {past, near}, {queries, keys}, DType::kBool);
    }
  }
  if (inputs.mask != nullptr && batch == inputs.batch && keys == inputs.length && (visible == nullptr || b.OneIn(2))) {
    Node* row = b.Call("aten.view", {inputs.mask, b.SizeList({batch, 1, 1, keys})}, {batch, 1, 1, keys}, DType::kBool);
    if (visible == nullptr) return row;
    // The own position stays visible: a row without any key is NaN.
    Node* range = b.Call("aten.arange", {b.Size(keys)}, {keys}, DType::kI64);
    Node* column = b.Call("aten.unsqueeze", {range, 1}, {keys, 1}, DType::kI64);
    Node* own = b.Call("aten.eq.Tensor", {column, range}, {queries, keys}, DType::kBool);
    const Shape full = {batch, 1, queries, keys};
    Node* both = b.Call("aten.logical_and", {visible, row}, full, DType::kBool);
    return b.Call("aten.logical_or", {both, own}, full, DType::kBool);
  }
  return visible;
}

// A penalty per head that grows with the distance (ALiBi), or a trained one.
Node* ScoreBias(Builder& b, std::int64_t heads, const Dim& queries, const Dim& keys) {
  if (queries == keys && queries.is_constant() && b.OneIn(2)) return b.Weight({heads, queries, keys});
  Node* rows = b.Call("aten.arange", {b.Size(queries)}, {queries}, DType::kI64);
  Node* columns = b.Call("aten.arange", {b.Size(keys)}, {keys}, DType::kI64);
  Node* upright = b.Call("aten.unsqueeze", {rows, 1}, {queries, 1}, DType::kI64);
  Node* distance = b.Call("aten.sub.Tensor", {columns, upright}, {queries, keys}, DType::kI64);
  Node* number = b.Call("aten.to.dtype", {distance, Argument::Dtype(DType::kF64)}, {queries, keys});
  Node* slopes = b.OneIn(2) ? b.Weight({heads, 1, 1}) : b.Input("slopes", DType::kF64, {heads, 1, 1});
  return b.Call("aten.mul.Tensor", {number, slopes}, {heads, queries, keys});
}

// kv heads repeated as transformers' repeat_kv does it: [b, g, t, e] -> [b, g*r, t, e]
Node* RepeatHeads(Builder& b, Node* x, std::int64_t times) {
  if (times == 1) return x;
  const Shape& shape = x->type.shape;
  const std::int64_t groups = b.Value(shape[1]);
  Node* one = b.Call("aten.unsqueeze", {x, 2}, {shape[0], groups, 1, shape[2], shape[3]});
  const Shape copies = {shape[0], groups, times, shape[2], shape[3]};
  Node* copied = b.Call("aten.expand", {one, b.SizeList(copies)}, copies);
  if (copied == nullptr) return nullptr;
  const Shape merged = {shape[0], groups * times, shape[2], shape[3]};
  return b.Call("aten.reshape", {copied, b.SizeList(merged)}, merged);
}

Node* EagerAttention(Builder& b, const ProgramInputs& inputs, Node* q, Node* k, Node* v) {
  const std::int64_t heads = b.Value(q->type.shape[1]);
  const std::int64_t times = heads / b.Value(k->type.shape[1]);
  k = RepeatHeads(b, k, times);
  v = RepeatHeads(b, v, times);
  if (k == nullptr || v == nullptr) return nullptr;
  const Dim &batch = q->type.shape[0], &queries = q->type.shape[2], &keys = k->type.shape[2];
  const Shape scores_shape = {batch, heads, queries, keys};
  Node* turned = b.Call("aten.transpose.int", {k, 2, 3}, {batch, heads, k->type.shape[3], keys});
  if (turned == nullptr || !b.Small(scores_shape)) return nullptr;
  Node* scores = b.Call("aten.matmul", {q, turned}, scores_shape);
  scores = b.Call("aten.mul.Tensor", {scores, 0.5}, scores_shape);
  if (b.OneIn(4)) scores = b.Call("aten.add.Tensor", {scores, ScoreBias(b, heads, queries, keys)}, scores_shape);
  if (Node* visible = b.OneIn(4) ? nullptr : VisibleKeys(b, inputs, batch, queries, keys)) {
    Node* hidden = b.Call("aten.logical_not", {visible}, visible->type.shape, DType::kBool);
    scores = b.Call("aten.masked_fill.Scalar",
                    {scores, hidden, b.OneIn(2) ? -1e4 : -std::numeric_limits<double>::infinity()}, scores_shape);
  }
  Node* weights = b.Call("aten.softmax.int", {scores, -1}, scores_shape);
  return b.Call("aten.matmul", {weights, v}, {batch, heads, queries, v->type.shape[3]});
}

Node* OneOpAttention(Builder& b, const ProgramInputs& inputs, Node* q, Node* k, Node* v) {
  const std::int64_t heads = b.Value(q->type.shape[1]);
  const Dim &batch = q->type.shape[0], &queries = q->type.shape[2], &keys = k->type.shape[2];
  const bool shared = q->type.shape[1] != k->type.shape[1];
  const bool causal = queries == keys && b.OneIn(3);
  Node* mask = nullptr;
  if (!causal && !b.OneIn(3)) mask = VisibleKeys(b, inputs, batch, queries, keys);
  if (!causal && mask == nullptr && b.OneIn(3)) mask = ScoreBias(b, heads, queries, keys);
  std::vector<Argument> args = {q, k, v, mask == nullptr ? Argument() : Argument(mask), 0.0, causal};
  Node* o = b.Call("aten.scaled_dot_product_attention", std::move(args), {batch, heads, queries, v->type.shape[3]});
  if (b.OneIn(3)) b.With(o, "scale", 0.4);
  return shared ? b.With(o, "enable_gqa", true) : o;
}

}  // namespace

Node* AttentionBlock(Builder& b, const ProgramInputs& inputs, Node* x) {
  if (!IsHidden(*x)) return nullptr;
  const std::int64_t p = inputs.ranks;
  std::int64_t heads = b.OneIn(6) ? 1 + b.Below(4) : p * (b.OneIn(3) ? 2 : 1);
  std::int64_t groups = heads;
  if (b.OneIn(3)) {
    for (const std::int64_t each : {std::int64_t{1}, std::int64_t{2}, p, heads / 2}) {
      if (each > 0 && heads % each == 0 && b.OneIn(2)) groups = each;
    }
  }
  const std::int64_t size = b.OneOf<std::int64_t>({2, 2, 4, 3});
  Node* source = x;  // Of keys and values; another sequence in a decoder over an encoder.
  if (b.OneIn(6)) {
    if (Node* other = b.PickIf([&](const Node& y) { return IsHidden(y) && y.type.shape[0] == x->type.shape[0]; }))
      source = other;
  }
  Node* q = Heads(b, x, heads, size);
  Node* k = Heads(b, source, groups, size);
  Node* v = Heads(b, source, groups, size);
  if (q == nullptr || k == nullptr || v == nullptr) return nullptr;
  if (b.OneIn(3)) q = Rotary(b, inputs, q), k = Rotary(b, inputs, k);
  if (q == nullptr || k == nullptr) return nullptr;
  Node* o = b.OneIn(3) ? EagerAttention(b, inputs, q, k, v) : OneOpAttention(b, inputs, q, k, v);
  if (o == nullptr) return nullptr;
  const Dim &batch = x->type.shape[0], &length = x->type.shape[1], &width = x->type.shape[2];
  Node* back = b.Call("aten.transpose.int", {o, 1, 2}, {batch, length, heads, size});
  if (b.OneIn(2)) back = b.Call("aten.contiguous", {back}, back->type.shape);
  Argument::List sizes = b.SizeList({batch, length, heads * size});
  if (b.OneIn(2)) sizes.back() = -1;
  Node* flat = b.Call(b.OneIn(2) ? "aten.view" : "aten.reshape", {back, sizes}, {batch, length, heads * size});
  Node* projected = b.Call("aten.linear", {flat, b.Weight({width, heads * size})}, x->type.shape);
  return b.OneIn(5) ? projected : b.Call("aten.add.Tensor", {x, projected}, x->type.shape);
}

Node* MlpBlock(Builder& b, Node* x) {
  const Shape shape = x->type.shape;
  if (shape.empty() || !shape.back().is_constant()) return nullptr;
  Shape wide = shape;
  wide.back() = b.OneOf<std::int64_t>({4, 6, 8});
  if (!b.Small(wide)) return nullptr;
  Node* up = b.Call("aten.linear", {x, b.Weight({wide.back(), shape.back()})}, wide);
  Node* act = b.Call(b.OneIn(2) ? "aten.silu" : "aten.gelu", {up}, wide);
  if (b.OneIn(2)) {
    Node* gate = b.Call("aten.linear", {x, b.Weight({wide.back(), shape.back()})}, wide);
    act = b.Call("aten.mul.Tensor", {act, gate}, wide);
  }
  Node* down = b.Call("aten.linear", {act, b.Weight({shape.back(), wide.back()})}, shape);
  return b.Call("aten.add.Tensor", {x, down}, shape);
}

namespace {

// x [b, s, d] against labels [b, s], in the forms that models write.
Node* TokenLoss(Builder& b, const ProgramInputs& inputs, Node* x, std::vector<Node*>& returned) {
  const std::int64_t classes = 5;
  const Shape& shape = x->type.shape;
  Node* logits = b.Call("aten.linear", {x, b.Weight({classes, shape[2]})}, {shape[0], shape[1], classes});
  if (logits == nullptr) return nullptr;
  if (b.OneIn(2)) returned.push_back(logits);
  Node* labels = inputs.labels;
  Shape positions = {shape[0], shape[1]};
  const std::int64_t dim = inputs.batch_first ? 1 : 0;
  if (b.OneIn(3)) {  // The next token: padded labels ...
    Shape longer = positions;
    longer[static_cast<std::size_t>(dim)] = longer[static_cast<std::size_t>(dim)] + 1;
    const Argument::List pads = dim == 1 ? Argument::List{0, 1} : Argument::List{0, 0, 0, 1};
    labels = b.Call("aten.pad", {labels, pads, "constant", -100.0}, longer, DType::kI64);
    labels = b.Call("aten.slice.Tensor", {labels, dim, 1, kToTheEnd}, positions, DType::kI64);
  } else if (b.OneIn(3) && b.Least(positions[static_cast<std::size_t>(dim)]) > 2) {  // ... or logits without the last.
    Dim& length = positions[static_cast<std::size_t>(dim)];
    length = length - 1;
    logits = b.Call("aten.slice.Tensor", {logits, dim, 0, b.OneIn(2) ? Argument(-1) : b.Size(length)},
                    {positions[0], positions[1], classes});
    labels = b.Call("aten.slice.Tensor", {labels, dim, 1, kToTheEnd}, positions, DType::kI64);
  }
  Node* scores = logits;
  Node* targets = labels;
  Shape flat = positions;
  if (b.OneIn(3)) {
    scores = b.Call("aten.transpose.int", {logits, 1, 2}, {positions[0], classes, positions[1]});
  } else {
    flat = {positions[0] * positions[1]};
    scores = b.Call("aten.reshape", {logits, Argument::List{-1, classes}}, {flat[0], classes});
    targets = b.Call("aten.reshape", {labels, Argument::List{-1}}, flat, DType::kI64);
  }
  const std::int64_t reduction = b.OneOf<std::int64_t>({1, 1, 2, 0});
  Argument weight;
  if (b.OneIn(8)) weight = b.Weight({classes});
  std::vector<Argument> args = {scores, targets, weight, reduction};
  if (b.OneIn(4)) args.emplace_back(-100);
  Node* loss = b.Call("aten.cross_entropy_loss", std::move(args), reduction == 0 ? flat : Shape{});
  if (b.OneIn(6)) b.With(loss, "label_smoothing", 0.1);
  if (weight.node() != nullptr) weight.node()->type.requires_grad = false;  // The op has no gradient for it.
  if (reduction == 1) return loss;
  if (reduction == 0) return b.Call("aten.mean", {loss}, {});
  Node* valid = b.Call("aten.ne.Scalar", {targets, -100}, flat, DType::kBool);
  Node* count = b.Call("aten.sum", {valid}, {}, DType::kI64);
  return b.OneIn(3) ? loss : b.Call("aten.div.Tensor", {loss, count}, {});
}

}  // namespace

Node* Loss(Builder& b, const ProgramInputs& inputs, Node* x, std::vector<Node*>& returned) {
  const Shape shape = x->type.shape;
  if (IsHidden(*x) && inputs.labels != nullptr &&
      Shape(shape.begin(), shape.begin() + 2) == inputs.labels->type.shape) {
    return TokenLoss(b, inputs, x, returned);
  }
  if (b.OneIn(8)) returned.push_back(x);
  if (shape.empty()) return x;
  if (inputs.labels != nullptr && shape.size() == 2 && shape == inputs.labels->type.shape && b.OneIn(2)) {
    Node* valid = b.Call("aten.ne.Scalar", {inputs.labels, -100}, shape, DType::kBool);
    Node* weights = b.Call("aten.to.dtype", {valid, Argument::Dtype(DType::kF64)}, shape);
    Node* kept = b.Call("aten.mul.Tensor", {x, weights}, shape);
    Node* count = b.Call("aten.sum", {valid}, {}, DType::kI64);
    return b.Call("aten.div.Tensor", {b.Call("aten.sum", {kept}, {}), count}, {});
  }
  Node* square = b.OneIn(3) ? b.Call("aten.tanh", {x}, shape) : b.Call("aten.mul.Tensor", {x, x}, shape);
  if (b.OneIn(4)) square = b.Call("aten.mean.dim", {square, Argument::List{-1}}, Shape(shape.begin(), shape.end() - 1));
  return b.Call(b.OneIn(2) ? "aten.sum" : "aten.mean", {square}, {});
}

}  // namespace autosp::test
