#pragma once

#include <autosp/sharding/factor_mapping.h>
#include <autosp/sharding/op_rules.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace autosp {

// What a rule function fills in. It starts with every tensor operand and result without factors, which means: needed
// whole. A function that does not understand a form of its op leaves it so, and the op is exact, only gathered.
class MappingBuilder {
 public:
  MappingBuilder(const Node& node, const OpRule& rule);

  const Node& node;
  CallArguments arguments;
  FactorMapping mapping;

  int AddFactor(const Dim& size, FactorKind kind = FactorKind::kPassThrough);
  // Positions in mapping.operands of the tensors that a parameter holds (several for a list).
  const std::vector<int>& OperandsOf(std::string_view parameter) const;
  // The operand of a parameter that holds one tensor; null when it is absent.
  OperandFactors* Operand(std::string_view parameter);
  OperandFactors* FirstOperand() { return mapping.operands.empty() ? nullptr : mapping.operands.data(); }
  const std::vector<Dim>& ShapeOf(const OperandFactors& operand) const { return operand.value->type.shape; }
  const Type& ResultType(std::size_t result) const { return *result_types_[result]; }
  std::size_t result_count() const { return result_types_.size(); }
  // dim, counted from the end when negative; -1 when out of range.
  static int Normalize(std::int64_t dim, int rank);

  // The padded tail of a summed factor is silenced by zeros in this operand; a summed factor that it lacks is needed
  // whole.
  void SumOver(int operand);

  // Closes the mapping: pass-through factors that some result lacks become whole, sizes are compared.
  FactorMapping Finish();

 private:
  void CompareSizes(const DimFactors& dims, const std::vector<Dim>& shape, const std::string& what);

  std::vector<const Type*> result_types_;
  std::map<std::string, std::vector<int>, std::less<>> operands_of_;
};

// Gives every dim of `shape` (sizes of 1 excepted) a new factor; the same list for operands that look alike.
DimFactors FreshFactors(MappingBuilder& builder, const std::vector<Dim>& shape);
// Factors of an operand that is broadcast against `result`: right-aligned, none where its size is 1.
DimFactors BroadcastFactors(const std::vector<Dim>& shape, const std::vector<Dim>& result, const DimFactors& factors);

// Whether an aten.slice call takes every element of a dim of this size.
bool SliceTakesAll(const CallArguments& arguments, const Dim& size);

using RuleFunction = void (*)(MappingBuilder&);
RuleFunction FindRuleFunction(std::string_view name);  // null when there is none
void MapEinsum(MappingBuilder& builder);

// Rule functions that stand in files of their own.
void MapAttention(MappingBuilder& builder);
void MapConvolution(MappingBuilder& builder);
void MapCrossEntropy(MappingBuilder& builder);
void MapEmbedding(MappingBuilder& builder);
void MapEquation(MappingBuilder& builder);
void MapExpand(MappingBuilder& builder);
void MapExpandAs(MappingBuilder& builder);
void MapGather(MappingBuilder& builder);
void MapHaloConvolution(MappingBuilder& builder);
void MapIndex(MappingBuilder& builder);
void MapIndexPut(MappingBuilder& builder);
void MapIndexSelect(MappingBuilder& builder);
void MapMatmul(MappingBuilder& builder);
void MapOneHot(MappingBuilder& builder);
void MapPad(MappingBuilder& builder);
void MapPermute(MappingBuilder& builder);
void MapRepeat(MappingBuilder& builder);
void MapRepeatInterleave(MappingBuilder& builder);
void MapReshape(MappingBuilder& builder);
void MapReshapeAs(MappingBuilder& builder);
void MapShift(MappingBuilder& builder);
void MapSlice(MappingBuilder& builder);
void MapSqueeze(MappingBuilder& builder);
void MapStack(MappingBuilder& builder);

}  // namespace autosp
