// The functions that op_rules.def names with @, in alphabetical order. Each fills in the factors of one call; what it
// leaves without factors is needed whole.
#include <algorithm>
#include <array>
#include <numeric>

#include "mapping_builder.h"

namespace autosp {
namespace {

bool KeepsDim(const MappingBuilder& builder, int rank, int dim, const Dim& size) {
  if (size.is_one() || builder.mapping.operands.size() != 1) return false;
  for (std::size_t r = 0; r < builder.result_count(); ++r) {
    const std::vector<Dim>& result = builder.ResultType(r).shape;
    if (static_cast<int>(result.size()) != rank || result[dim] != size) return false;
  }
  return true;
}

// Ops along one or more dims (softmax, cumsum, cat, select, split, topk, flip ...): those dims are needed whole, every
// other dim passes. A result of one rank less has lost its dim.
void Along(MappingBuilder& builder) {
  const std::string& parameter = builder.arguments.rule().function_argument;
  const std::string& op = builder.node.op;
  const bool last_by_default = op == "aten.topk" || op == "aten.sort" || op == "aten.diff";
  std::vector<std::int64_t> wanted = builder.arguments.Ints(parameter);
  if (wanted.empty()) {
    if (op == "aten.roll") return;  // Without dims it rolls the flattened tensor.
    wanted = {last_by_default ? -1 : 0};
  }
  OperandFactors* first = builder.FirstOperand();
  if (first == nullptr) return;
  const std::vector<Dim> shape = builder.ShapeOf(*first);
  const int rank = static_cast<int>(shape.size());
  std::vector<bool> along(rank, false);
  for (const std::int64_t dim : wanted) {
    const int normalized = MappingBuilder::Normalize(dim, rank);
    if (normalized < 0) return;
    along[normalized] = true;
  }
  DimFactors passing(rank);
  for (int dim = 0; dim < rank; ++dim) {
    if (!along[dim] && !shape[dim].is_one()) passing[dim] = {builder.AddFactor(shape[dim])};
    // Where the dim keeps its size (softmax, cumsum, roll), the result's positions are the operand's: readers may cut
    // it.
    if (along[dim] && KeepsDim(builder, rank, dim, shape[dim])) {
      passing[dim] = {builder.AddFactor(shape[dim], FactorKind::kWhole)};
    }
  }
  for (OperandFactors& operand : builder.mapping.operands) {
    if (builder.ShapeOf(operand).size() == shape.size()) operand.dims = passing;
  }
  for (std::size_t r = 0; r < builder.result_count(); ++r) {
    DimFactors& result = builder.mapping.results[r];
    if (static_cast<int>(result.size()) == rank) {
      result = passing;
      continue;
    }
    int next = 0;
    for (int dim = 0; dim < rank; ++dim) {
      if (!along[dim] && next < static_cast<int>(result.size())) result[next++] = passing[dim];
    }
  }
}

void Assertion(MappingBuilder& builder) {
  // Sizes and strides are those of the whole value; dtype and device hold on every rank.
  const bool sizes = builder.arguments.Find("size") != nullptr || builder.arguments.Find("stride") != nullptr;
  for (OperandFactors& operand : builder.mapping.operands) operand.read = sizes;
}

void Pointwise(MappingBuilder& builder) {
  if (builder.result_count() != 1) return;
  const std::vector<Dim>& result = builder.ResultType(0).shape;
  const DimFactors factors = FreshFactors(builder, result);
  builder.mapping.results[0] = factors;
  for (OperandFactors& operand : builder.mapping.operands) {
    operand.dims = BroadcastFactors(builder.ShapeOf(operand), result, factors);
  }
}

// A seed: each rank draws its own, the largest is the one of the group.
void DrawSeed(MappingBuilder& builder) { builder.mapping.makes_terms = ReduceOp::kMax; }

void Dropout(MappingBuilder& builder) {
  Pointwise(builder);
  builder.mapping.random = builder.arguments.Bool("train", true) && builder.arguments.Double("p", 0.5) != 0;
}

// weight (v, d), indices (*) -> (*, d). A gradient scaled by how often an index occurs counts all positions, and a
// sparse one is not averaged like the others: both need the whole.
void Embedding(MappingBuilder& builder) {
  OperandFactors* weight = builder.Operand("weight");
  OperandFactors* indices = builder.Operand("indices");
  if (weight == nullptr || indices == nullptr || builder.arguments.Bool("scale_grad_by_freq", false) ||
      builder.arguments.Bool("sparse", false)) {
    return;
  }
  const std::vector<Dim>& rows = builder.ShapeOf(*weight);
  DimFactors& result = builder.mapping.results[0];
  indices->dims = FreshFactors(builder, builder.ShapeOf(*indices));
  std::copy(indices->dims.begin(), indices->dims.end(), result.begin());
  weight->dims[0] = {builder.AddFactor(rows[0], FactorKind::kWhole)};
  weight->dims[1] = result.back() = {builder.AddFactor(rows[1])};
}

// A dim of size 1 becomes n; new leading dims appear. Both get factors that only the result has.
void Expand(MappingBuilder& builder) {
  OperandFactors* self = builder.Operand("self");
  if (self == nullptr) return;
  const std::vector<Dim>& result = builder.ResultType(0).shape;
  const std::vector<Dim>& shape = builder.ShapeOf(*self);
  if (shape.size() > result.size()) return;
  builder.mapping.results[0] = FreshFactors(builder, result);
  self->dims = BroadcastFactors(shape, result, builder.mapping.results[0]);
}

// The second operand gives the shape, so it must lie like the result.
void ExpandAs(MappingBuilder& builder) {
  Expand(builder);
  if (OperandFactors* other = builder.Operand("other")) other->dims = builder.mapping.results[0];
}

// Operands (of new_ones(x) and the like) are looked at for dtype and device only; the result is whole.
void Factory(MappingBuilder& builder) {
  for (OperandFactors& operand : builder.mapping.operands) operand.read = false;
}

void IndexSelect(MappingBuilder& builder) {
  OperandFactors* self = builder.Operand("self");
  OperandFactors* index = builder.Operand("index");
  if (self == nullptr || index == nullptr) return;
  const std::vector<Dim>& shape = builder.ShapeOf(*self);
  const int dim = MappingBuilder::Normalize(builder.arguments.Int("dim").value_or(0), static_cast<int>(shape.size()));
  if (dim < 0 || builder.ShapeOf(*index).size() != 1) return;
  self->dims = FreshFactors(builder, shape);
  builder.mapping.results[0] = self->dims;
  self->dims[dim] = {};
  index->dims[0] = {builder.AddFactor(builder.ShapeOf(*index)[0])};
  builder.mapping.results[0][dim] = index->dims[0];
}

// tril, triu: the last two dims are looked at by position, all others pass.
void LastTwo(MappingBuilder& builder) {
  OperandFactors* self = builder.Operand("self");
  if (self == nullptr) return;
  self->dims = FreshFactors(builder, builder.ShapeOf(*self));
  for (std::size_t dim = self->dims.size() - std::min<std::size_t>(2, self->dims.size()); dim < self->dims.size();
       ++dim) {
    self->dims[dim] = {};
  }
  builder.mapping.results[0] = self->dims;
}

void LayerNorm(MappingBuilder& builder) {
  OperandFactors* input = builder.Operand("input");
  const Argument* normalized = builder.arguments.Find("normalized_shape");
  if (input == nullptr || normalized == nullptr || normalized->list() == nullptr) return;
  const std::size_t trailing = normalized->list()->size();
  DimFactors factors = FreshFactors(builder, builder.ShapeOf(*input));
  if (trailing > factors.size()) return;
  for (std::size_t dim = factors.size() - trailing; dim < factors.size(); ++dim) factors[dim] = {};
  input->dims = factors;
  builder.mapping.results[0] = factors;
}

void Matmul(MappingBuilder& builder) {
  OperandFactors* self = builder.Operand("self");
  OperandFactors* other = builder.Operand("other");
  if (self == nullptr || other == nullptr) return;
  const std::vector<Dim> a = builder.ShapeOf(*self);
  const std::vector<Dim> b = builder.ShapeOf(*other);
  if (a.empty() || b.empty()) return;
  DimFactors& result = builder.mapping.results[0];
  const std::vector<Dim>& shape = builder.ResultType(0).shape;
  const int k = builder.AddFactor(a.back(), FactorKind::kReduction);
  self->dims.back() = {k};
  other->dims[b.size() > 1 ? b.size() - 2 : 0] = {k};
  std::size_t tail = 0;  // Dims of the result that are m and n.
  if (b.size() > 1) {
    other->dims.back() = {builder.AddFactor(b.back())};
    result[result.size() - 1 - tail++] = other->dims.back();
  }
  if (a.size() > 1) {
    self->dims[a.size() - 2] = {builder.AddFactor(a[a.size() - 2])};
    result[result.size() - 1 - tail++] = self->dims[a.size() - 2];
  }
  const std::vector<Dim> batch(shape.begin(), shape.end() - static_cast<std::ptrdiff_t>(tail));
  const DimFactors factors = FreshFactors(builder, batch);
  std::copy(factors.begin(), factors.end(), result.begin());
  for (OperandFactors* operand : {self, other}) {
    const std::vector<Dim>& whole = builder.ShapeOf(*operand);
    if (whole.size() <= 2) continue;
    const DimFactors dims = BroadcastFactors({whole.begin(), whole.end() - 2}, batch, factors);
    std::copy(dims.begin(), dims.end(), operand->dims.begin());
  }
  builder.mapping.neutral_operand = static_cast<int>(self - builder.mapping.operands.data());
}

void Pad(MappingBuilder& builder) {
  OperandFactors* self = builder.Operand("self");
  const Argument* pad = builder.arguments.Find("pad");
  if (self == nullptr || pad == nullptr || pad->list() == nullptr) return;
  DimFactors factors = FreshFactors(builder, builder.ShapeOf(*self));
  const Argument::List& amounts = *pad->list();
  for (std::size_t i = 0; i < amounts.size(); ++i) {  // (left, right) pairs from the last dim on
    const auto* amount = amounts[i].get<std::int64_t>();
    if (i / 2 < factors.size() && (amount == nullptr || *amount != 0)) factors[factors.size() - 1 - i / 2] = {};
  }
  self->dims = factors;
  builder.mapping.results[0] = factors;
}

void Permute(MappingBuilder& builder) {
  OperandFactors* self = builder.Operand("self");
  if (self == nullptr) return;
  const int rank = builder.ResultType(0).rank();
  std::vector<int> order(rank);
  std::iota(order.begin(), order.end(), 0);
  if (builder.node.op == "aten.permute") {
    const std::vector<std::int64_t> dims = builder.arguments.Ints("dims");
    if (static_cast<int>(dims.size()) != rank) return;
    for (int i = 0; i < rank; ++i) order[i] = MappingBuilder::Normalize(dims[i], rank);
  } else if (rank >= 2) {  // transpose.int, or t of a matrix
    const int a = MappingBuilder::Normalize(builder.arguments.Int("dim0").value_or(0), rank);
    const int b = MappingBuilder::Normalize(builder.arguments.Int("dim1").value_or(1), rank);
    if (a < 0 || b < 0) return;
    std::swap(order[a], order[b]);
  }
  self->dims = FreshFactors(builder, builder.ShapeOf(*self));
  for (int i = 0; i < rank; ++i) builder.mapping.results[0][i] = self->dims[order[i]];
}

void Random(MappingBuilder& builder) { builder.mapping.random = true; }

// Reductions over "dim" (absent or empty: all). "sum": the reduced factors may be cut; "whole": they may not.
void Reduce(MappingBuilder& builder) {
  OperandFactors* self = builder.Operand("self");
  if (self == nullptr) return;
  const std::vector<Dim> shape = builder.ShapeOf(*self);
  const int rank = static_cast<int>(shape.size());
  std::vector<std::int64_t> dims = builder.arguments.Ints("dim");
  std::vector<bool> reduced(rank, dims.empty());
  for (const std::int64_t dim : dims) {
    const int normalized = MappingBuilder::Normalize(dim, rank);
    if (normalized < 0) return;
    reduced[normalized] = true;
  }
  const bool sum = builder.arguments.rule().function_argument == "sum";
  self->dims = FreshFactors(builder, shape);
  for (DimFactors& result : builder.mapping.results) {
    const bool keeps = static_cast<int>(result.size()) == rank;
    std::size_t next = 0;
    for (int dim = 0; dim < rank; ++dim) {
      if (reduced[dim]) {
        for (const int factor : self->dims[dim]) {
          builder.mapping.factors[factor].kind = sum ? FactorKind::kReduction : FactorKind::kWhole;
        }
        if (keeps) ++next;
      } else if (next < result.size()) {
        result[next++] = self->dims[dim];
      }
    }
  }
  if (sum) builder.mapping.neutral_operand = static_cast<int>(self - builder.mapping.operands.data());
}

void RepeatInterleave(MappingBuilder& builder) {
  OperandFactors* self = builder.Operand("self");
  const std::optional<std::int64_t> repeats = builder.arguments.Int("repeats");
  const std::optional<std::int64_t> wanted = builder.arguments.Int("dim");
  // With output_size the call holds a global size: needed whole.
  if (self == nullptr || !repeats || !wanted || builder.arguments.Find("output_size") != nullptr) return;
  const int dim = MappingBuilder::Normalize(*wanted, static_cast<int>(self->dims.size()));
  if (dim < 0) return;
  self->dims = FreshFactors(builder, builder.ShapeOf(*self));
  builder.mapping.results[0] = self->dims;
  builder.mapping.results[0][dim].push_back(builder.AddFactor(*repeats, FactorKind::kWhole));
}

// Splits both shapes into common factors, outermost first:
//   [b, s, h*d] -> [b, s, h, d]: b | s | h | d       [b, s, v] -> [b*s, v]: b | s | v
//   [6, 4, s] -> [4, 6, s]: 6 and 4 have no common split; those dims are needed whole, s still passes (from the right).
void FactorReshape(MappingBuilder& builder, const std::vector<Dim>& from, const std::vector<Dim>& to, DimFactors& in,
                   DimFactors& out) {
  std::size_t i = 0;
  std::size_t j = 0;
  std::size_t i_end = from.size();
  std::size_t j_end = to.size();
  Dim rest_in = 1;
  Dim rest_out = 1;
  bool open_in = false;  // Part of from[i] is already matched.
  bool open_out = false;
  bool blocked = false;
  while (!blocked) {
    if (!open_in) {
      while (i < i_end && from[i].is_one()) ++i;
      if (i < i_end) rest_in = from[i];
    }
    if (!open_out) {
      while (j < j_end && to[j].is_one()) ++j;
      if (j < j_end) rest_out = to[j];
    }
    if (i >= i_end || j >= j_end) break;
    if (rest_in == rest_out) {
      const int factor = builder.AddFactor(rest_in);
      in[i++].push_back(factor);
      out[j++].push_back(factor);
      open_in = open_out = false;
    } else if (const std::optional<Dim> more_out = ExactDiv(rest_out, rest_in)) {
      const int factor = builder.AddFactor(rest_in);
      in[i++].push_back(factor);
      out[j].push_back(factor);
      open_in = false;
      open_out = true;
      rest_out = *more_out;
    } else if (const std::optional<Dim> more_in = ExactDiv(rest_in, rest_out)) {
      const int factor = builder.AddFactor(rest_out);
      in[i].push_back(factor);
      out[j++].push_back(factor);
      open_out = false;
      open_in = true;
      rest_in = *more_in;
    } else {
      blocked = true;
    }
  }
  if (!blocked) return;
  while (i_end > i + 1 && j_end > j + 1 && from[i_end - 1] == to[j_end - 1]) {
    const int factor = builder.AddFactor(from[--i_end]);
    in[i_end].push_back(factor);
    out[--j_end].push_back(factor);
  }
  for (std::size_t dim = i; dim < i_end; ++dim) {
    in[dim].push_back(builder.AddFactor(dim == i ? rest_in : from[dim], FactorKind::kWhole));
  }
  for (std::size_t dim = j; dim < j_end; ++dim) {
    out[dim].push_back(builder.AddFactor(dim == j ? rest_out : to[dim], FactorKind::kWhole));
  }
}

void Reshape(MappingBuilder& builder) {
  OperandFactors* self = builder.Operand("self");
  if (self == nullptr || builder.result_count() != 1) return;
  FactorReshape(builder, builder.ShapeOf(*self), builder.ResultType(0).shape, self->dims, builder.mapping.results[0]);
}

void ReshapeAs(MappingBuilder& builder) {
  Reshape(builder);
  if (OperandFactors* other = builder.Operand("other")) other->dims = builder.mapping.results[0];
}

// sym_size: a number about the whole value; convert_global_to_local puts the global size there.
void Size(MappingBuilder& builder) {
  for (OperandFactors& operand : builder.mapping.operands) operand.read = false;
}

// A slice that takes everything passes its dim; any other cut needs it whole.
void Slice(MappingBuilder& builder) {
  OperandFactors* self = builder.Operand("self");
  if (self == nullptr) return;
  const std::vector<Dim>& shape = builder.ShapeOf(*self);
  const int dim = MappingBuilder::Normalize(builder.arguments.Int("dim").value_or(0), static_cast<int>(shape.size()));
  if (dim < 0) return;
  self->dims = FreshFactors(builder, shape);
  builder.mapping.results[0] = self->dims;
  if (!SliceTakesAll(builder.arguments, shape[dim])) {
    self->dims[dim] = {};
    builder.mapping.results[0][dim] = {};
  }
}

// Dims of size 1 go away, those that "dim" names or all. A block may hold one element of a longer dim, so such a dim is
// needed whole if the call names it: on a rank it would go away too.
void Squeeze(MappingBuilder& builder) {
  OperandFactors* self = builder.Operand("self");
  if (self == nullptr) return;
  const std::vector<Dim>& shape = builder.ShapeOf(*self);
  const std::vector<std::int64_t> dims = builder.arguments.Ints("dim");
  std::vector<bool> named(shape.size(), dims.empty());
  for (const std::int64_t dim : dims) {
    const int normalized = MappingBuilder::Normalize(dim, static_cast<int>(shape.size()));
    if (normalized >= 0) named[normalized] = true;
  }
  std::size_t next = 0;
  for (std::size_t dim = 0; dim < shape.size() && next < builder.mapping.results[0].size(); ++dim) {
    if (named[dim] && shape[dim].is_one()) continue;
    if (!named[dim] && !shape[dim].is_one()) {
      self->dims[dim] = builder.mapping.results[0][next] = {builder.AddFactor(shape[dim])};
    }
    ++next;
  }
}

void Stack(MappingBuilder& builder) {
  OperandFactors* first = builder.FirstOperand();
  if (first == nullptr) return;
  DimFactors& result = builder.mapping.results[0];
  const int dim = MappingBuilder::Normalize(builder.arguments.Int("dim").value_or(0), static_cast<int>(result.size()));
  if (dim < 0) return;
  const DimFactors factors = FreshFactors(builder, builder.ShapeOf(*first));
  for (OperandFactors& operand : builder.mapping.operands) operand.dims = factors;
  for (std::size_t i = 0; i < factors.size(); ++i) result[i < static_cast<std::size_t>(dim) ? i : i + 1] = factors[i];
}

void TypeAs(MappingBuilder& builder) {
  if (OperandFactors* other = builder.Operand("other")) other->read = false;
  OperandFactors* self = builder.Operand("self");
  if (self == nullptr) return;
  self->dims = FreshFactors(builder, builder.ShapeOf(*self));
  builder.mapping.results[0] = self->dims;
}

void Whole(MappingBuilder& /*builder*/) {}

struct NamedFunction {
  std::string_view name;
  RuleFunction function;
};

constexpr auto kFunctions = std::to_array<NamedFunction>({{"along", Along},
                                                          {"assertion", Assertion},
                                                          {"attention", MapAttention},
                                                          {"cross_entropy", MapCrossEntropy},
                                                          {"draw_seed", DrawSeed},
                                                          {"dropout", Dropout},
                                                          {"embedding", Embedding},
                                                          {"expand", Expand},
                                                          {"expand_as", ExpandAs},
                                                          {"factory", Factory},
                                                          {"index_select", IndexSelect},
                                                          {"last_two", LastTwo},
                                                          {"layer_norm", LayerNorm},
                                                          {"matmul", Matmul},
                                                          {"pad", Pad},
                                                          {"permute", Permute},
                                                          {"pointwise", Pointwise},
                                                          {"random", Random},
                                                          {"reduce", Reduce},
                                                          {"repeat_interleave", RepeatInterleave},
                                                          {"reshape", Reshape},
                                                          {"reshape_as", ReshapeAs},
                                                          {"size", Size},
                                                          {"slice", Slice},
                                                          {"squeeze", Squeeze},
                                                          {"stack", Stack},
                                                          {"type_as", TypeAs},
                                                          {"unflatten", Reshape},
                                                          {"whole", Whole}});

}  // namespace

bool SliceTakesAll(const CallArguments& arguments, const Dim& size) {
  const Argument* start = arguments.Find("start");
  const Argument* end = arguments.Find("end");
  const Argument* step = arguments.Find("step");
  const auto* start_value = start == nullptr ? nullptr : start->get<std::int64_t>();
  const auto* step_value = step == nullptr ? nullptr : step->get<std::int64_t>();
  if (start != nullptr && (start_value == nullptr || *start_value != 0)) return false;
  if (step != nullptr && (step_value == nullptr || *step_value != 1)) return false;
  if (end == nullptr) return true;
  if (const Node* node = end->node()) return node->type.kind == Type::Kind::kInt && node->type.number == size;
  const auto* end_value = end->get<std::int64_t>();
  if (end_value == nullptr) return false;
  // The framework writes "to the end" as the largest int.
  if (*end_value >= (std::int64_t{1} << 62)) return true;
  const std::optional<std::int64_t> constant = size.constant();
  return constant && *end_value >= *constant;
}

RuleFunction FindRuleFunction(std::string_view name) {
  for (const NamedFunction& entry : kFunctions) {
    if (entry.name == name) return entry.function;
  }
  return nullptr;
}

}  // namespace autosp
