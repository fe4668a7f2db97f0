// Rule functions of ops that sum products, in alphabetical order.
#include <algorithm>
#include <iterator>
#include <map>

#include "mapping_builder.h"

namespace autosp {
namespace {

// The letters that stand once, in alphabetical order.
std::string ImplicitResult(const std::vector<std::string>& terms) {
  std::map<char, int> count;
  bool ellipsis = false;
  for (const std::string& term : terms) {
    for (const char c : term) {
      if (c == '.') ellipsis = true;
      if (c != '.') ++count[c];
    }
  }
  std::string result = ellipsis ? "..." : "";
  for (const auto& [letter, times] : count) {
    if (times == 1) result += letter;
  }
  return result;
}

// Dims of `term` get the factors of its letters; a dim of size 1 under a longer letter is broadcast.
void AddLetters(MappingBuilder& builder, const std::string& term, const std::vector<Dim>& shape, DimFactors& dims,
                std::map<char, int>& factor_of) {
  const std::size_t dots = term.find("...");
  const std::size_t letters = term.size() - (dots == std::string::npos ? 0 : 3);
  if (letters > shape.size()) return;
  for (std::size_t i = 0; i < term.size(); ++i) {
    if (term[i] == '.') continue;
    const std::size_t dim = i < dots ? i : shape.size() - (term.size() - i);
    if (shape[dim].is_one()) continue;
    const auto [found, added] = factor_of.emplace(term[i], -1);
    if (added) found->second = builder.AddFactor(shape[dim]);
    dims[dim] = {found->second};
    if (std::count(term.begin(), term.end(), term[i]) > 1) {
      builder.mapping.factors[found->second].kind = FactorKind::kWhole;
    }
  }
}

}  // namespace

// input (n, c, x..) or (c, x..), weight (o, c / groups, k..), bias (o) -> (n, o, y..). The loop over c is a sum unless
// there is a bias or a group; x is needed whole, unless each result element reads one element of it.
void MapConvolution(MappingBuilder& builder) {
  OperandFactors* input = builder.Operand("input");
  OperandFactors* weight = builder.Operand("weight");
  if (input == nullptr || weight == nullptr) return;
  const std::vector<Dim>& x = builder.ShapeOf(*input);
  const std::vector<Dim>& w = builder.ShapeOf(*weight);
  DimFactors& result = builder.mapping.results[0];
  if (w.size() < 3 || x.size() + 1 < w.size() || x.size() != result.size()) return;
  const std::size_t channel = x.size() + 1 - w.size();  // 1, or 0 without a batch
  if (channel > 1) return;
  if (channel == 1) input->dims[0] = result[0] = {builder.AddFactor(x[0])};
  OperandFactors* bias = builder.Operand("bias");
  const bool grouped = builder.arguments.Int("groups").value_or(1) != 1;
  if (!grouped) {
    const FactorKind kind = bias == nullptr ? FactorKind::kReduction : FactorKind::kWhole;
    input->dims[channel] = weight->dims[1] = {builder.AddFactor(x[channel], kind)};
    weight->dims[0] = result[channel] = {builder.AddFactor(w[0])};
    if (bias != nullptr) bias->dims[0] = weight->dims[0];
    builder.mapping.neutral_operand = static_cast<int>(input - builder.mapping.operands.data());
  }
  const auto all_are = [&](const char* parameter, std::int64_t wanted) {
    const std::vector<std::int64_t> values = builder.arguments.Ints(parameter);
    return std::all_of(values.begin(), values.end(), [&](std::int64_t value) { return value == wanted; });
  };
  if (!all_are("stride", 1) || !all_are("padding", 0)) return;
  for (std::size_t dim = channel + 1; dim < x.size(); ++dim) {
    if (w[dim + 1 - channel].is_one()) input->dims[dim] = result[dim] = {builder.AddFactor(x[dim])};
  }
}

// As a convolution of a padded input, whose last dim keeps its size: it may be cut, each rank then reads the edges of
// its neighbours' blocks.
void MapHaloConvolution(MappingBuilder& builder) {
  MapConvolution(builder);
  OperandFactors* input = builder.Operand("input");
  if (input == nullptr || input->dims.empty() || !input->dims.back().empty()) return;
  const int positions = builder.AddFactor(builder.ShapeOf(*input).back());
  builder.mapping.factors[positions].ordered = true;
  input->dims.back() = builder.mapping.results[0].back() = {positions};
}

// "bsd,hd->bsh" or "bij,bjk": a letter is a factor, summed over when the result lacks it. What "..." stands for is
// needed whole, and so is a letter that one operand has twice (a diagonal).
void MapEquation(MappingBuilder& builder) {
  const Argument* argument = builder.arguments.Find("equation");
  const std::string* given = argument == nullptr ? nullptr : argument->get<std::string>();
  if (given == nullptr) return;
  std::string equation;
  std::copy_if(given->begin(), given->end(), std::back_inserter(equation), [](char c) { return c != ' '; });
  const std::size_t arrow = equation.find("->");
  std::vector<std::string> terms(1);
  for (const char c : equation.substr(0, arrow)) c == ',' ? terms.emplace_back().clear() : terms.back().push_back(c);
  const std::vector<int>& operands = builder.OperandsOf("tensors");
  if (operands.size() != terms.size()) return;
  std::map<char, int> factor_of;
  for (std::size_t i = 0; i < terms.size(); ++i) {
    OperandFactors& operand = builder.mapping.operands[operands[i]];
    AddLetters(builder, terms[i], builder.ShapeOf(operand), operand.dims, factor_of);
  }
  const std::string result = arrow == std::string::npos ? ImplicitResult(terms) : equation.substr(arrow + 2);
  AddLetters(builder, result, builder.ResultType(0).shape, builder.mapping.results[0], factor_of);
  for (const auto& [letter, factor] : factor_of) {
    if (result.find(letter) != std::string::npos || builder.mapping.factors[factor].kind == FactorKind::kWhole)
      continue;
    builder.mapping.factors[factor].kind = FactorKind::kReduction;
  }
  builder.SumOver(operands[0]);
}

void MapMatmul(MappingBuilder& builder) {
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

}  // namespace autosp
