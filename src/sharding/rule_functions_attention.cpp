// The two ops that carry the sequence's meaning: attention and the token loss.
#include <autosp/ir/type.h>

#include "mapping_builder.h"

namespace autosp {

// query (b.., h, s, d), key (b.., g, t, d), value (b.., g, t, e), mask broadcast to (b.., h, s, t) -> (b.., h, s, e)
//   h = g x r for grouped queries: query head i reads kv head i / r, so cutting g cuts q, k and v alike.
//   t and d are needed whole. s passes, unless is_causal: then a rank would need to know where its block starts.
//   Ulysses repairs a sequence cut (on s or t) by cutting the heads.
void MapAttention(MappingBuilder& builder) {
  OperandFactors* query = builder.Operand("query");
  OperandFactors* key = builder.Operand("key");
  OperandFactors* value = builder.Operand("value");
  if (query == nullptr || key == nullptr || value == nullptr) return;
  const std::vector<Dim> q = builder.ShapeOf(*query);
  const std::vector<Dim> k = builder.ShapeOf(*key);
  const std::vector<Dim> v = builder.ShapeOf(*value);
  const std::size_t rank = q.size();
  if (rank < 3 || k.size() != rank || v.size() != rank) return;
  builder.mapping.random = builder.arguments.Double("dropout_p", 0) != 0;
  const bool causal = builder.arguments.Bool("is_causal", false);

  DimFactors result(rank);
  const std::size_t head = rank - 3;
  query->dims.assign(rank, {});
  for (std::size_t dim = 0; dim < head; ++dim) {  // Batch dims of size 1 are broadcast.
    const Dim& size = q[dim].is_one() ? (k[dim].is_one() ? v[dim] : k[dim]) : q[dim];
    const auto fits = [&](const Dim& other) { return other == size || other.is_one(); };
    result[dim] = {builder.AddFactor(
        size, fits(q[dim]) && fits(k[dim]) && fits(v[dim]) ? FactorKind::kPassThrough : FactorKind::kWhole)};
    if (q[dim] == size) query->dims[dim] = result[dim];
    if (k[dim] == size) key->dims[dim] = result[dim];
    if (v[dim] == size) value->dims[dim] = result[dim];
  }
  const std::optional<Dim> group = ExactDiv(q[head], k[head]);
  const int heads =
      builder.AddFactor(k[head], group && k[head] == v[head] ? FactorKind::kPassThrough : FactorKind::kWhole);
  key->dims[head] = value->dims[head] = {heads};
  result[head] = {heads};
  if (group && !group->is_one()) result[head].push_back(builder.AddFactor(*group, FactorKind::kPassThrough));
  if (!group) result[head] = {builder.AddFactor(q[head], FactorKind::kWhole)};
  const int s = builder.AddFactor(q[rank - 2], causal ? FactorKind::kWhole : FactorKind::kPassThrough);
  result[rank - 2] = {s};
  query->dims[head] = result[head];
  query->dims[rank - 2] = {s};
  query->dims[rank - 1] = {builder.AddFactor(q[rank - 1], FactorKind::kWhole)};
  key->dims[rank - 1] = query->dims[rank - 1];
  const int t = builder.AddFactor(k[rank - 2], FactorKind::kWhole);
  key->dims[rank - 2] = value->dims[rank - 2] = {t};
  value->dims[rank - 1] = result[rank - 1] = {builder.AddFactor(v[rank - 1])};
  builder.mapping.results[0] = result;
  if (OperandFactors* mask = builder.Operand("attn_mask")) {
    std::vector<Dim> whole(builder.ResultType(0).shape);
    whole.back() = k[rank - 2];
    DimFactors factors = result;
    factors[rank - 1] = {t};
    mask->dims = BroadcastFactors(builder.ShapeOf(*mask), whole, factors);
  }
  builder.mapping.repair_from = s;
  builder.mapping.repair_to = heads;
  builder.mapping.query_heads = q[head].constant().value_or(0);
}

// self (n, c), (n, c, d..) or (c); target (n, d..) of class indices, or probabilities like self. reduction 0 none, 1
// mean, 2 sum.
//   sum: n and d may be cut, the result is a partial sum. Padded positions get the ignore_index as target, or the
//        probability 0 of every class; smoothed labels are never 0.
//   mean: split by normalize_captured_ops; what is left of it needs all positions.
void MapCrossEntropy(MappingBuilder& builder) {
  OperandFactors* self = builder.Operand("self");
  OperandFactors* target = builder.Operand("target");
  if (self == nullptr || target == nullptr) return;
  const bool probabilities = IsFloating(target->value->type.dtype);
  const std::vector<Dim>& shape = builder.ShapeOf(*self);
  if (shape.size() < 2 || builder.ShapeOf(*target).size() + (probabilities ? 0 : 1) != shape.size()) return;
  const std::int64_t reduction = builder.arguments.Int("reduction").value_or(1);
  const bool smoothed = probabilities && builder.arguments.Double("label_smoothing", 0) != 0;
  FactorKind kind = FactorKind::kWhole;
  if (reduction == 0) kind = FactorKind::kPassThrough;
  if (reduction == 2 && !smoothed) kind = FactorKind::kReduction;
  for (std::size_t dim = 0; dim < shape.size(); ++dim) {
    if (dim == 1) continue;  // classes
    self->dims[dim] = {builder.AddFactor(shape[dim], kind)};
    const std::size_t position = dim == 0 ? 0 : dim - 1;
    target->dims[probabilities ? dim : position] = self->dims[dim];
    if (reduction == 0) builder.mapping.results[0][position] = self->dims[dim];
  }
  if (kind == FactorKind::kReduction) {
    builder.mapping.neutral_operand = static_cast<int>(target - builder.mapping.operands.data());
    const auto ignored = static_cast<double>(builder.arguments.Int("ignore_index").value_or(-100));
    builder.mapping.neutral_value = probabilities ? 0 : ignored;
  }
}

}  // namespace autosp
