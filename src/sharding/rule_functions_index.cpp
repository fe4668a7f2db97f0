// Rule functions of ops that read or write at indices, in alphabetical order.
#include <autosp/ir/type.h>
#include <algorithm>

#include "mapping_builder.h"

namespace autosp {
namespace {

// What self[i, :, j] reads and where it goes. The index tensors are broadcast to one shape; its dims stand where the
// first index stands, or in front when a slice is between two of them.
//   self (v, d, e), indices [none, (s), (b, 1)]  ->  (v, b, s): d and e are indexed, v passes, b and s are positions.
struct Indexing {
  std::vector<OperandFactors*> indices;
  std::vector<std::size_t> indexed;  // dims of self
  std::vector<Dim> positions;        // the broadcast shape
  std::size_t place = 0;             // of the positions in the result
};

std::optional<Indexing> ReadIndexing(MappingBuilder& builder) {
  const Argument* argument = builder.arguments.Find("indices");
  OperandFactors* self = builder.Operand("self");
  if (argument == nullptr || argument->list() == nullptr || self == nullptr) return std::nullopt;
  Indexing indexing;
  std::size_t next = 0;
  const std::vector<int>& operands = builder.OperandsOf("indices");
  for (std::size_t dim = 0; dim < argument->list()->size(); ++dim) {
    if ((*argument->list())[dim].is_none()) continue;
    if (next >= operands.size()) return std::nullopt;
    OperandFactors& operand = builder.mapping.operands[operands[next++]];
    // A mask takes as many dims as it has, and how many positions it gives depends on its values.
    const DType dtype = operand.value->type.dtype;
    if (dtype == DType::kBool || dtype == DType::kU8) return std::nullopt;
    indexing.indices.push_back(&operand);
    indexing.indexed.push_back(dim);
    const std::vector<Dim>& shape = builder.ShapeOf(operand);
    if (shape.size() > indexing.positions.size()) {
      indexing.positions.insert(indexing.positions.begin(), shape.size() - indexing.positions.size(), Dim(1));
    }
    for (std::size_t i = 0; i < shape.size(); ++i) {
      Dim& size = indexing.positions[indexing.positions.size() - shape.size() + i];
      if (size.is_one()) size = shape[i];
    }
  }
  if (indexing.indexed.empty() || indexing.indexed.back() >= self->dims.size()) return std::nullopt;
  const bool adjacent = indexing.indexed.back() - indexing.indexed.front() + 1 == indexing.indexed.size();
  indexing.place = adjacent ? indexing.indexed.front() : 0;
  return indexing;
}

// The factors of self[indices] from those of self and of the positions.
DimFactors SelectionFactors(const Indexing& indexing, const DimFactors& self, const DimFactors& positions) {
  DimFactors selection;
  for (std::size_t dim = 0; dim < self.size(); ++dim) {
    const auto& indexed = indexing.indexed;
    if (std::find(indexed.begin(), indexed.end(), dim) == indexed.end()) selection.push_back(self[dim]);
  }
  selection.insert(selection.begin() + static_cast<std::ptrdiff_t>(indexing.place), positions.begin(), positions.end());
  return selection;
}

}  // namespace

// weight (v, d), indices (*) -> (*, d). A gradient scaled by how often an index occurs counts all positions, and a
// sparse one is not averaged like the others: both need the whole.
void MapEmbedding(MappingBuilder& builder) {
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

// gather(self, dim, index), take_along_dim(self, indices, dim): dim of self is needed whole, positions of the index
// pass along it; every other dim passes where self and index have all of it.
void MapGather(MappingBuilder& builder) {
  OperandFactors* self = builder.Operand("self");
  OperandFactors* index = builder.Operand("index");
  if (index == nullptr) index = builder.Operand("indices");
  const std::optional<std::int64_t> wanted = builder.arguments.Int("dim");
  const std::vector<Dim>& result = builder.ResultType(0).shape;
  if (self == nullptr || index == nullptr || !wanted || self->dims.size() != result.size() ||
      index->dims.size() != result.size()) {
    return;
  }
  const int along = MappingBuilder::Normalize(*wanted, static_cast<int>(result.size()));
  builder.mapping.results[0] = FreshFactors(builder, result);
  for (int dim = 0; dim < static_cast<int>(result.size()); ++dim) {
    for (OperandFactors* operand : {self, index}) {
      const Dim& size = builder.ShapeOf(*operand)[dim];
      if (operand == self && dim == along) continue;
      if (size == result[dim]) {
        operand->dims[dim] = builder.mapping.results[0][dim];
      } else if (!size.is_one()) {  // gather reads the first elements of a longer dim.
        for (const int factor : builder.mapping.results[0][dim]) {
          builder.mapping.factors[factor].kind = FactorKind::kWhole;
        }
      }
    }
  }
}

// self[indices]: what is indexed is needed whole, everything else passes.
void MapIndex(MappingBuilder& builder) {
  const std::optional<Indexing> indexing = ReadIndexing(builder);
  if (!indexing) return;
  OperandFactors* self = builder.Operand("self");
  DimFactors kept = FreshFactors(builder, builder.ShapeOf(*self));
  for (const std::size_t dim : indexing->indexed) kept[dim] = {};
  const DimFactors positions = FreshFactors(builder, indexing->positions);
  DimFactors selection = SelectionFactors(*indexing, kept, positions);
  if (selection.size() != builder.mapping.results[0].size()) return;
  self->dims = kept;
  for (OperandFactors* index : indexing->indices) {
    index->dims = BroadcastFactors(builder.ShapeOf(*index), indexing->positions, positions);
  }
  builder.mapping.results[0] = selection;
}

// self[indices] = values: the positions are needed whole too, since each may write anywhere.
void MapIndexPut(MappingBuilder& builder) {
  const std::optional<Indexing> indexing = ReadIndexing(builder);
  OperandFactors* values = builder.Operand("values");
  if (!indexing || values == nullptr) return;
  OperandFactors* self = builder.Operand("self");
  const std::vector<Dim>& shape = builder.ShapeOf(*self);
  DimFactors kept = FreshFactors(builder, shape);
  for (const std::size_t dim : indexing->indexed) kept[dim] = {};
  const DimFactors selection = SelectionFactors(*indexing, kept, DimFactors(indexing->positions.size()));
  std::vector<Dim> sizes;
  for (const std::vector<int>& factors : selection) {
    sizes.push_back(factors.empty() ? Dim(1) : builder.mapping.factors[factors[0]].size);
  }
  self->dims = builder.mapping.results[0] = kept;
  values->dims = BroadcastFactors(builder.ShapeOf(*values), sizes, selection);
}

void MapIndexSelect(MappingBuilder& builder) {
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

// (*) -> (*, n). Without a number of classes, a rank would take the largest of its own block.
void MapOneHot(MappingBuilder& builder) {
  OperandFactors* self = builder.Operand("self");
  if (self == nullptr || builder.arguments.Int("num_classes").value_or(-1) < 0) return;
  self->dims = FreshFactors(builder, builder.ShapeOf(*self));
  std::copy(self->dims.begin(), self->dims.end(), builder.mapping.results[0].begin());
}

}  // namespace autosp
