#include "conformance.h"

#include <ATen/ATen.h>

#include <random>
#include <thread>

namespace autosp::runtime::conformance {
namespace {

using Tensors = std::vector<at::Tensor>;

Tensors Samples(const RankContext& context, at::IntArrayRef shape, at::ScalarType dtype) {
  Tensors samples;
  for (std::int64_t rank = 0; rank < context.size(); ++rank) samples.push_back(Sample(shape, dtype, rank));
  return samples;
}

at::Tensor Reduced(const Tensors& terms, Reduction reduction) {
  at::Tensor total = terms[0].clone();
  const bool truth = total.scalar_type() == at::kBool;
  for (std::size_t i = 1; i < terms.size(); ++i) {
    if (truth) {
      total = reduction == Reduction::kMin ? total.logical_and(terms[i]) : total.logical_or(terms[i]);
    } else if (reduction == Reduction::kSum) {
      total = total + terms[i];
    } else {
      total = reduction == Reduction::kMax ? at::maximum(total, terms[i]) : at::minimum(total, terms[i]);
    }
  }
  return total;
}

void ExpectEqual(RankContext& context, const Expected<at::Tensor>& result, const at::Tensor& truth,
                 const std::string& what) {
  if (!result.ok()) return context.Expect(false, what + ": " + result.status().ToString());
  context.Expect(result->scalar_type() == truth.scalar_type(), what + ": dtype");
  context.Expect(result->sizes() == truth.sizes(), what + ": sizes");
  context.Expect(result->is_contiguous() && !result->is_conj() && !result->is_neg(), what + ": not contiguous");
  if (result->sizes() == truth.sizes()) context.Expect(at::equal(*result, truth), what + ": values");
}

// All-to-all and all-gather of everyone's `xs`, as plain indexing.
void CheckMoves(RankContext& context, Communicator& group, const Tensors& xs, const std::string& what) {
  const auto self = static_cast<std::size_t>(context.rank());
  const at::Tensor before = xs[self].clone();
  ExpectEqual(context, group.AllGather(xs[self]), at::stack(xs), what + " all_gather");
  if (xs[self].dim() > 0 && xs[self].size(0) == context.size()) {
    Tensors rows;
    for (const at::Tensor& x : xs) rows.push_back(x[context.rank()]);
    const auto result = group.AllToAll(xs[self]);
    ExpectEqual(context, result, at::stack(rows), what + " all_to_all");
    if (result.ok() && result->numel() > 0) {
      context.Expect(!result->is_alias_of(xs[self]), what + " all_to_all: alias of its operand");
    }
  }
  context.Expect(at::equal(before, xs[self]), what + ": the operand has changed");
}

void CheckReductions(RankContext& context, Communicator& group, const Tensors& xs, const std::string& what) {
  const auto self = static_cast<std::size_t>(context.rank());
  const at::Tensor before = xs[self].clone();
  for (const Reduction reduction : {Reduction::kSum, Reduction::kMax, Reduction::kMin}) {
    if (xs[self].is_complex() && reduction != Reduction::kSum) continue;
    const std::string name = what + " " + ToString(reduction);
    const at::Tensor truth = Reduced(xs, reduction);
    ExpectEqual(context, group.AllReduce(xs[self], reduction), truth, name + " all_reduce");
    if (xs[self].dim() > 0 && xs[self].size(0) == context.size()) {
      ExpectEqual(context, group.ReduceScatter(xs[self], reduction), truth[context.rank()], name + " reduce_scatter");
    }
  }
  context.Expect(at::equal(before, xs[self]), what + ": the operand has changed");
}

void CheckBoth(RankContext& context, const Tensors& xs, const std::string& what) {
  CheckMoves(context, *context.first, xs, what);
  CheckReductions(context, *context.first, xs, what);
}

void ValuesOfEveryDtype(RankContext& context) {
  for (const at::ScalarType dtype :
       {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf, at::kLong, at::kInt, at::kByte, at::kBool}) {
    CheckBoth(context, Samples(context, {context.size(), 3, 2}, dtype), c10::toString(dtype));
  }
  CheckBoth(context, Samples(context, {context.size(), 3}, at::kComplexDouble), "complex");
  // No library knows these; they are only moved.
  CheckMoves(context, *context.first, Samples(context, {context.size(), 3}, at::kShort), "short");
  CheckMoves(context, *context.first, Samples(context, {context.size(), 3}, at::kFloat8_e4m3fn), "float8");
}

// Numbers of elements that the ranks do not divide, single elements, no dims.
void UnevenSizes(RankContext& context) {
  for (const std::int64_t length : {1, 2, 5, 7, 13, 1021}) {
    CheckBoth(context, Samples(context, {length}, at::kFloat), "length " + std::to_string(length));
    CheckBoth(context, Samples(context, {context.size(), length, 3}, at::kBFloat16),
              "rows of " + std::to_string(length));
  }
  CheckBoth(context, Samples(context, {}, at::kDouble), "no dims");
  CheckBoth(context, Samples(context, {context.size()}, at::kHalf), "one each");
  CheckBoth(context, Samples(context, {context.size(), 1, 2, 1, 1, 2, 1, 1, 3, 1}, at::kFloat), "ten dims");
}

void ZeroSized(RankContext& context) {
  CheckBoth(context, Samples(context, {context.size(), 0}, at::kFloat), "no columns");
  CheckBoth(context, Samples(context, {0}, at::kLong), "empty");
  CheckBoth(context, Samples(context, {context.size(), 2}, at::kFloat), "after empty ones");
}

void NonContiguous(RankContext& context) {
  const std::int64_t P = context.size();
  const auto check = [&](const char* what, at::IntArrayRef shape, at::ScalarType dtype, auto view) {
    Tensors xs;
    for (const at::Tensor& x : Samples(context, shape, dtype)) xs.push_back(view(x));
    CheckBoth(context, xs, what);
  };
  check("transposed", {5, P}, at::kFloat, [](const at::Tensor& x) { return x.t(); });
  check("every second", {2 * P, 6}, at::kDouble, [](const at::Tensor& x) { return x.slice(0, 0, at::nullopt, 2); });
  check("inner slice", {P, 6}, at::kBFloat16, [](const at::Tensor& x) { return x.slice(1, 1, 4); });
  check("expanded", {P, 1}, at::kLong, [](const at::Tensor& x) { return x.expand({-1, 4}); });
  check("offset", {P + 1, 3}, at::kFloat, [](const at::Tensor& x) { return x.narrow(0, 1, x.size(0) - 1); });
  check("conjugated", {P, 3}, at::kComplexDouble, [](const at::Tensor& x) { return x.conj(); });
  check("negated", {P, 3}, at::kComplexDouble, [](const at::Tensor& x) { return at::imag(x.conj()); });
}

// Past every threshold at which a library changes its algorithm, and back.
void LargeAndManyCalls(RankContext& context) {
  for (const std::int64_t length : {16, 4096, 100003, 700001}) {
    CheckBoth(context, Samples(context, {context.size(), length}, at::kFloat), "large " + std::to_string(length));
  }
  for (int call = 0; call < 200; ++call) {
    Tensors xs = Samples(context, {context.size(), 17}, at::kInt);
    for (at::Tensor& x : xs) x.add_(call);
    CheckMoves(context, *context.first, xs, "call " + std::to_string(call));
    CheckReductions(context, *context.second, xs, "call " + std::to_string(call));
  }
}

// Each group in a thread of its own, on every rank at its own pace.
void ConcurrentGroups(RankContext& context) {
  const auto work = [&context](Communicator& group, unsigned seed, std::vector<std::string>& problems) {
    RankContext own;
    std::minstd_rand random(seed * 1000 + static_cast<unsigned>(context.rank()));
    for (std::int64_t call = 0; call < 50; ++call) {
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 300));
      Tensors xs = Samples(context, {context.size(), 1 + (call + static_cast<std::int64_t>(seed)) % 40 * 50}, at::kInt);
      Tensors rows;
      for (at::Tensor& x : xs) rows.push_back((x + seed)[context.rank()]);
      const std::string what = "group " + std::to_string(seed) + " call " + std::to_string(call);
      const at::Tensor x = xs[static_cast<std::size_t>(context.rank())] + static_cast<int>(seed);
      ExpectEqual(own, group.AllToAll(x), at::stack(rows), what);
    }
    problems = std::move(own.problems);
  };
  std::vector<std::string> other_problems;
  std::thread other([&] { work(*context.second, 7, other_problems); });
  std::vector<std::string> own_problems;
  work(*context.first, 3, own_problems);
  other.join();
  context.problems.insert(context.problems.end(), own_problems.begin(), own_problems.end());
  context.problems.insert(context.problems.end(), other_problems.begin(), other_problems.end());
}

// Rounding depends on the order of the terms: all ranks must have taken the same one.
void ReductionsAreTheSameEverywhere(RankContext& context) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const at::Tensor x = (Sample({1000}, at::kDouble, context.rank()) * 0.1 + context.rank()).sin().to(dtype);
    const auto sum = context.first->AllReduce(x, Reduction::kSum);
    if (!sum.ok()) return context.Expect(false, sum.status().ToString());
    const auto all = context.first->AllGather(*sum);
    if (!all.ok()) return context.Expect(false, all.status().ToString());
    for (std::int64_t q = 0; q < context.size(); ++q) {
      context.Expect(at::equal((*all)[q], *sum), std::string("sums differ between ranks in ") + c10::toString(dtype));
    }
  }
}

}  // namespace

void RankContext::Expect(bool condition, const std::string& what) {
  if (!condition && problems.size() < 20) problems.push_back(what);
}

at::Tensor Sample(at::IntArrayRef shape, at::ScalarType dtype, std::int64_t rank) {
  const std::int64_t count = c10::multiply_integers(shape);
  at::Tensor numbers = at::remainder(at::arange(count, at::kLong) * 7 + rank * 5 + 3, 11);
  if (dtype == at::kBool) return numbers.gt(5).reshape(shape);
  if (c10::isComplexType(dtype)) {
    const at::Tensor real = numbers.to(at::kDouble);
    return at::complex(real, real.flip({0}) - 4).reshape(shape).to(dtype);
  }
  return numbers.to(dtype).reshape(shape);
}

const std::vector<Case>& Cases() {
  static const std::vector<Case> kCases = [] {
    std::vector<Case> cases{{"ValuesOfEveryDtype", ValuesOfEveryDtype},
                            {"UnevenSizes", UnevenSizes},
                            {"ZeroSized", ZeroSized},
                            {"NonContiguous", NonContiguous},
                            {"LargeAndManyCalls", LargeAndManyCalls},
                            {"ConcurrentGroups", ConcurrentGroups},
                            {"ReductionsAreTheSameEverywhere", ReductionsAreTheSameEverywhere}};
    for (const Case& fault : FaultCases()) cases.push_back(fault);
    return cases;
  }();
  return kCases;
}

}  // namespace autosp::runtime::conformance
