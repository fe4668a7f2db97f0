// Rule functions of ops that change the shape of a value and none of its elements, in alphabetical order.
#include <algorithm>
#include <numeric>

#include "mapping_builder.h"

namespace autosp {
namespace {

bool OrderOfPermute(const std::vector<std::int64_t>& dims, int rank, std::vector<int>& order) {
  for (const std::int64_t dim : dims) order.push_back(MappingBuilder::Normalize(dim, rank));
  return static_cast<int>(order.size()) == rank && std::count(order.begin(), order.end(), -1) == 0;
}

bool OrderOfMove(const CallArguments& arguments, int rank, std::vector<int>& order) {
  const std::vector<std::int64_t> source = arguments.Ints("source");
  const std::vector<std::int64_t> destination = arguments.Ints("destination");
  if (source.size() != destination.size()) return false;
  order.assign(rank, -1);
  std::vector<bool> moved(rank, false);
  for (std::size_t i = 0; i < source.size(); ++i) {
    const int from = MappingBuilder::Normalize(source[i], rank);
    const int to = MappingBuilder::Normalize(destination[i], rank);
    if (from < 0 || to < 0) return false;
    order[to] = from;
    moved[from] = true;
  }
  int next = 0;
  for (int& place : order) {
    if (place >= 0) continue;
    while (moved[next]) ++next;
    place = next++;
  }
  return true;
}

bool OrderOfDims(MappingBuilder& builder, int rank, std::vector<int>& order) {
  const CallArguments& arguments = builder.arguments;
  const std::vector<std::string>& parameters = arguments.rule().parameters;
  if (parameters.size() == 2) return OrderOfPermute(arguments.Ints("dims"), rank, order);
  if (parameters.size() == 3 && parameters[1] == "source") return OrderOfMove(arguments, rank, order);
  order.resize(rank);
  std::iota(order.begin(), order.end(), 0);
  if (builder.node.op == "aten.numpy_T") std::reverse(order.begin(), order.end());
  if (builder.node.op == "aten.numpy_T" || rank < 2) return true;
  int a = builder.node.op == "aten.t" ? 0 : -2;
  int b = builder.node.op == "aten.t" ? 1 : -1;
  if (parameters.size() == 3) {
    const std::optional<std::int64_t> first = arguments.Int(parameters[1]);
    const std::optional<std::int64_t> second = arguments.Int(parameters[2]);
    if (!first || !second) return false;
    a = static_cast<int>(*first);
    b = static_cast<int>(*second);
  }
  a = MappingBuilder::Normalize(a, rank);
  b = MappingBuilder::Normalize(b, rank);
  if (a < 0 || b < 0) return false;
  std::swap(order[a], order[b]);
  return true;
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

}  // namespace

// A dim of size 1 becomes n; new leading dims appear. Both get factors that only the result has.
void MapExpand(MappingBuilder& builder) {
  OperandFactors* self = builder.Operand("self");
  if (self == nullptr) return;
  const std::vector<Dim>& result = builder.ResultType(0).shape;
  const std::vector<Dim>& shape = builder.ShapeOf(*self);
  if (shape.size() > result.size()) return;
  builder.mapping.results[0] = FreshFactors(builder, result);
  self->dims = BroadcastFactors(shape, result, builder.mapping.results[0]);
}

// The second operand gives the shape, so it must lie like the result.
void MapExpandAs(MappingBuilder& builder) {
  MapExpand(builder);
  if (OperandFactors* other = builder.Operand("other")) other->dims = builder.mapping.results[0];
}

void MapPad(MappingBuilder& builder) {
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

// permute, movedim(source, destination), ops of two dims that change places, and t, mT and numpy_T.
void MapPermute(MappingBuilder& builder) {
  OperandFactors* self = builder.Operand("self");
  if (self == nullptr) return;
  const int rank = builder.ResultType(0).rank();
  std::vector<int> order;  // Of the operand's dims in the result; -1: not known yet.
  if (!OrderOfDims(builder, rank, order)) return;
  self->dims = FreshFactors(builder, builder.ShapeOf(*self));
  for (int i = 0; i < rank; ++i) builder.mapping.results[0][i] = self->dims[order[i]];
}

// repeat, tile: result dim i is repeats[i] copies of a dim, outermost first; new dims come in front.
void MapRepeat(MappingBuilder& builder) {
  OperandFactors* self = builder.Operand("self");
  if (self == nullptr) return;
  std::vector<std::int64_t> repeats = builder.arguments.Ints(builder.arguments.rule().parameters.at(1));
  const std::vector<Dim>& result = builder.ResultType(0).shape;
  if (repeats.size() > result.size()) return;
  repeats.insert(repeats.begin(), result.size() - repeats.size(), 1);  // tile: the last dims only
  const std::vector<Dim>& shape = builder.ShapeOf(*self);
  const std::size_t added = result.size() - shape.size();
  for (std::size_t dim = 0; dim < result.size(); ++dim) {
    const Dim size = dim < added ? Dim(1) : shape[dim - added];
    if (size * Dim(repeats[dim]) != result[dim]) return;  // A number of copies that is not written in the call.
  }
  for (std::size_t dim = 0; dim < result.size(); ++dim) {
    std::vector<int>& factors = builder.mapping.results[0][dim];
    if (repeats[dim] != 1) factors.push_back(builder.AddFactor(repeats[dim], FactorKind::kWhole));
    if (dim < added || shape[dim - added].is_one()) continue;
    factors.push_back(builder.AddFactor(shape[dim - added]));
    self->dims[dim - added] = {factors.back()};
  }
}

void MapRepeatInterleave(MappingBuilder& builder) {
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

void MapReshape(MappingBuilder& builder) {
  OperandFactors* self = builder.Operand("self");
  if (self == nullptr || builder.result_count() != 1) return;
  FactorReshape(builder, builder.ShapeOf(*self), builder.ResultType(0).shape, self->dims, builder.mapping.results[0]);
}

void MapReshapeAs(MappingBuilder& builder) {
  MapReshape(builder);
  if (OperandFactors* other = builder.Operand("other")) other->dims = builder.mapping.results[0];
}

// Every dim passes; the one that is shifted in one run of blocks, each rank then reads the edge of a neighbour's block.
void MapShift(MappingBuilder& builder) {
  OperandFactors* input = builder.Operand("input");
  if (input == nullptr) return;
  const std::vector<Dim>& shape = builder.ShapeOf(*input);
  const int dim = MappingBuilder::Normalize(builder.arguments.Int("dim").value_or(0), static_cast<int>(shape.size()));
  if (dim < 0) return;
  input->dims = builder.mapping.results[0] = FreshFactors(builder, shape);
  for (const int factor : input->dims[dim]) builder.mapping.factors[factor].ordered = true;
}

// A slice that takes everything passes its dim; any other cut needs it whole.
void MapSlice(MappingBuilder& builder) {
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
void MapSqueeze(MappingBuilder& builder) {
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

void MapStack(MappingBuilder& builder) {
  OperandFactors* first = builder.FirstOperand();
  if (first == nullptr) return;
  DimFactors& result = builder.mapping.results[0];
  const int dim = MappingBuilder::Normalize(builder.arguments.Int("dim").value_or(0), static_cast<int>(result.size()));
  if (dim < 0) return;
  const DimFactors factors = FreshFactors(builder, builder.ShapeOf(*first));
  for (OperandFactors& operand : builder.mapping.operands) operand.dims = factors;
  for (std::size_t i = 0; i < factors.size(); ++i) result[i < static_cast<std::size_t>(dim) ? i : i + 1] = factors[i];
}

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

}  // namespace autosp
