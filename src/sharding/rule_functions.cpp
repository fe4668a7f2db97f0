// The functions that op_rules.def names with @, in alphabetical order. Each fills in the factors of one call; what it
// leaves without factors is needed whole.
#include <algorithm>
#include <array>
#include <sstream>

#include "mapping_builder.h"

namespace autosp {
namespace {

// The dims that a rule's argument names, "dim=-1" or "dim1=0 dim2=1": a parameter, and its value where the call has
// none.
std::optional<std::vector<bool>> NamedDims(MappingBuilder& builder, int rank) {
  std::vector<bool> named(rank, false);
  std::istringstream words(builder.arguments.rule().function_argument);
  for (std::string word; words >> word;) {
    const std::size_t equals = word.find('=');
    std::vector<std::int64_t> dims = builder.arguments.Ints(word.substr(0, equals));
    const bool absent = builder.arguments.Find(word.substr(0, equals)) == nullptr;
    if (absent && equals != std::string::npos) dims = {std::stoi(word.substr(equals + 1))};
    if (dims.empty()) return std::nullopt;  // All dims, flattened.
    for (const std::int64_t dim : dims) {
      const int normalized = MappingBuilder::Normalize(dim, rank);
      if (normalized < 0) return std::nullopt;
      named[normalized] = true;
    }
  }
  return named;
}

// Where a dim keeps its size (softmax, cumsum, roll), the result's positions are the operand's: readers may cut it.
bool KeepsDim(const MappingBuilder& builder, std::size_t rank, std::size_t dim, const Dim& size) {
  if (size.is_one() || builder.mapping.operands.size() != 1) return false;
  for (std::size_t r = 0; r < builder.result_count(); ++r) {
    const std::vector<Dim>& result = builder.ResultType(r).shape;
    if (result.size() != rank || result[dim] != size) return false;
  }
  return true;
}

// Ops along one or more dims (softmax, cumsum, cat, select, split, topk, flip ...): those dims are needed whole, every
// other dim passes. A result of lower rank has lost them; one of higher rank (unfold) has new dims at its end.
void Along(MappingBuilder& builder) {
  const OperandFactors* first = builder.FirstOperand();
  if (first == nullptr) return;
  const std::vector<Dim> shape = builder.ShapeOf(*first);
  const std::size_t rank = shape.size();
  const std::optional<std::vector<bool>> along = NamedDims(builder, static_cast<int>(rank));
  if (!along) return;
  for (const OperandFactors& operand : builder.mapping.operands) {
    if (operand.dims.size() > 1 && operand.dims.size() != rank) return;  // Neither alike nor a list of indices.
  }
  DimFactors passing = FreshFactors(builder, shape);
  DimFactors kept;
  for (std::size_t dim = 0; dim < rank; ++dim) {
    if (!(*along)[dim]) {
      kept.push_back(passing[dim]);
    } else if (KeepsDim(builder, rank, dim, shape[dim])) {
      builder.mapping.factors[passing[dim][0]].kind = FactorKind::kWhole;
    } else {
      passing[dim] = {};
    }
  }
  for (OperandFactors& operand : builder.mapping.operands) {
    const std::vector<Dim>& sizes = builder.ShapeOf(operand);
    if (sizes.size() != rank) continue;
    operand.dims = passing;
    for (std::size_t dim = 0; dim < rank; ++dim) {
      if (passing[dim].empty() || sizes[dim] == shape[dim]) continue;
      operand.dims[dim] = {};  // scatter with fewer indices than self has elements
      builder.mapping.factors[passing[dim][0]].kind = FactorKind::kWhole;
    }
  }
  for (DimFactors& result : builder.mapping.results) {
    const DimFactors& from = result.size() < rank ? kept : passing;
    std::copy_n(from.begin(), std::min(from.size(), result.size()), result.begin());
  }
}

void Assertion(MappingBuilder& builder) {
  // Sizes and strides are those of the whole value; dtype and device hold on every rank.
  const bool sizes = builder.arguments.Find("size") != nullptr || builder.arguments.Find("stride") != nullptr;
  for (OperandFactors& operand : builder.mapping.operands) operand.read = sizes;
}

// input (n, c, *). In training the statistics are those of the whole batch; otherwise every dim passes.
void BatchNorm(MappingBuilder& builder) {
  OperandFactors* input = builder.Operand("input");
  if (input == nullptr || input->dims.size() < 2 || builder.arguments.Bool("training", true)) return;
  input->dims = builder.mapping.results[0] = FreshFactors(builder, builder.ShapeOf(*input));
  for (OperandFactors& operand : builder.mapping.operands) {
    if (&operand != input && operand.dims.size() == 1) operand.dims[0] = input->dims[1];
  }
}

// "@pointwise": element by element with broadcasting. "@pointwise self": of that operand alone, the others are needed
// whole.
void Pointwise(MappingBuilder& builder) {
  if (builder.result_count() == 0) return;
  const std::vector<Dim>& result = builder.ResultType(0).shape;
  for (std::size_t r = 1; r < builder.result_count(); ++r) {
    if (builder.ResultType(r).shape != result) return;
  }
  const DimFactors factors = FreshFactors(builder, result);
  for (DimFactors& dims : builder.mapping.results) dims = factors;
  const std::string& only = builder.arguments.rule().function_argument;
  for (OperandFactors& operand : builder.mapping.operands) {
    if (!only.empty() && &operand != builder.Operand(only)) continue;
    operand.dims = BroadcastFactors(builder.ShapeOf(operand), result, factors);
  }
}

// A seed: each rank draws its own, the largest is the one of the group.
void DrawSeed(MappingBuilder& builder) { builder.mapping.makes_terms = ReduceOp::kMax; }

void Dropout(MappingBuilder& builder) {
  Pointwise(builder);
  builder.mapping.random = builder.arguments.Bool("train", true) && builder.arguments.Double("p", 0.5) != 0;
}

// Operands (of new_ones(x) and the like) are looked at for dtype and device only; the result is whole.
void Factory(MappingBuilder& builder) {
  for (OperandFactors& operand : builder.mapping.operands) operand.read = false;
}

// The first `count` dims of the first operand pass, to the first dims of every result; all else is needed whole.
void PassLeading(MappingBuilder& builder, std::size_t count) {
  OperandFactors* first = builder.FirstOperand();
  const std::vector<Dim>& shape = builder.ShapeOf(*first);
  const DimFactors factors = FreshFactors(builder, {shape.begin(), shape.begin() + static_cast<std::ptrdiff_t>(count)});
  std::copy(factors.begin(), factors.end(), first->dims.begin());
  for (DimFactors& result : builder.mapping.results) {
    if (result.size() >= count) std::copy(factors.begin(), factors.end(), result.begin());
  }
}

// "@last 2": the last two dims of the first operand are needed whole (images, matrices), all others pass.
void Last(MappingBuilder& builder) {
  if (builder.FirstOperand() == nullptr) return;
  const std::size_t rank = builder.FirstOperand()->dims.size();
  const auto whole = static_cast<std::size_t>(std::stoi(builder.arguments.rule().function_argument));
  PassLeading(builder, rank - std::min(whole, rank));
}

// "@leading 1": only the first dim of the first operand passes (group norm over a batch).
void Leading(MappingBuilder& builder) {
  if (builder.FirstOperand() == nullptr) return;
  const std::size_t rank = builder.FirstOperand()->dims.size();
  const auto leading = static_cast<std::size_t>(std::stoi(builder.arguments.rule().function_argument));
  PassLeading(builder, std::min(leading, rank));
}

// Results beside the first (mean and rstd) have the leading dims too.
void LayerNorm(MappingBuilder& builder) {
  OperandFactors* input = builder.Operand("input");
  const Argument* normalized = builder.arguments.Find("normalized_shape");
  if (input == nullptr || normalized == nullptr || normalized->list() == nullptr) return;
  const std::size_t trailing = normalized->list()->size();
  DimFactors factors = FreshFactors(builder, builder.ShapeOf(*input));
  if (trailing > factors.size()) return;
  for (std::size_t dim = factors.size() - trailing; dim < factors.size(); ++dim) factors[dim] = {};
  input->dims = factors;
  for (DimFactors& result : builder.mapping.results) {
    if (result.size() == factors.size()) result = factors;
  }
}

// Losses element by element: a result per element passes every dim; normalize_captured_ops writes their sums and means
// so, and what is left needs everything.
void Loss(MappingBuilder& builder) {
  if (builder.arguments.Int("reduction").value_or(1) == 0) Pointwise(builder);
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

// sym_size: a number about the whole value; convert_global_to_local puts the global size there.
void Size(MappingBuilder& builder) {
  for (OperandFactors& operand : builder.mapping.operands) operand.read = false;
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

constexpr auto kFunctions = std::to_array<NamedFunction>({{"alias", Pointwise},
                                                          {"along", Along},
                                                          {"assertion", Assertion},
                                                          {"attention", MapAttention},
                                                          {"batch_norm", BatchNorm},
                                                          {"convolution", MapConvolution},
                                                          {"cross_entropy", MapCrossEntropy},
                                                          {"draw_seed", DrawSeed},
                                                          {"dropout", Dropout},
                                                          {"einsum", MapEquation},
                                                          {"embedding", MapEmbedding},
                                                          {"expand", MapExpand},
                                                          {"expand_as", MapExpandAs},
                                                          {"factory", Factory},
                                                          {"gather", MapGather},
                                                          {"halo_convolution", MapHaloConvolution},
                                                          {"index", MapIndex},
                                                          {"index_put", MapIndexPut},
                                                          {"index_select", MapIndexSelect},
                                                          {"last", Last},
                                                          {"layer_norm", LayerNorm},
                                                          {"leading", Leading},
                                                          {"loss", Loss},
                                                          {"matmul", MapMatmul},
                                                          {"one_hot", MapOneHot},
                                                          {"pad", MapPad},
                                                          {"permute", MapPermute},
                                                          {"pointwise", Pointwise},
                                                          {"random", Random},
                                                          {"reduce", Reduce},
                                                          {"repeat", MapRepeat},
                                                          {"repeat_interleave", MapRepeatInterleave},
                                                          {"reshape", MapReshape},
                                                          {"reshape_as", MapReshapeAs},
                                                          {"shift", MapShift},
                                                          {"size", Size},
                                                          {"slice", MapSlice},
                                                          {"squeeze", MapSqueeze},
                                                          {"stack", MapStack},
                                                          {"type_as", TypeAs},
                                                          {"unflatten", MapReshape},
                                                          {"whole", Whole}});

}  // namespace

RuleFunction FindRuleFunction(std::string_view name) {
  for (const NamedFunction& entry : kFunctions) {
    if (entry.name == name) return entry.function;
  }
  return nullptr;
}

}  // namespace autosp
