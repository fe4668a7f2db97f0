// Graphs partitioned by hand against their unsharded originals: values and gradients.
#include "spmd_check.h"

#include <ATen/Parallel.h>

namespace autosp::testing {
namespace {

// At toy sizes kernel threads only wait for each other: this program takes a tenth of the time without them.
class OneThread : public ::testing::Environment {
  void SetUp() override { at::set_num_threads(1); }
};
[[maybe_unused]] const auto* const kOneThread = ::testing::AddGlobalTestEnvironment(new OneThread);

struct Run {
  int ranks;
  std::int64_t length;
};

void PrintTo(const Run& run, std::ostream* out) { *out << run.length << " over " << run.ranks; }

class Partitioned : public ::testing::TestWithParam<Run> {
 protected:
  int ranks() const { return GetParam().ranks; }
  bool padded() const { return GetParam().length % ranks() != 0; }
  SpmdCheck check() const { return {.inputs = {.sizes = {{"s0", GetParam().length}}}}; }
};

std::string NameOf(const ::testing::TestParamInfo<Run>& info) {
  return std::to_string(info.param.length) + "over" + std::to_string(info.param.ranks);
}

INSTANTIATE_TEST_SUITE_P(Lengths, Partitioned,
                         ::testing::Values(Run{1, 7}, Run{2, 8}, Run{4, 8}, Run{2, 7}, Run{4, 7}, Run{4, 41},
                                           Run{3, 4}),
                         NameOf);

// What one rank alone cannot get wrong.
class SeveralRanks : public Partitioned {};

INSTANTIATE_TEST_SUITE_P(Lengths, SeveralRanks, ::testing::Values(Run{2, 8}, Run{4, 8}, Run{4, 7}, Run{4, 41}), NameOf);

constexpr std::string_view kLinear = R"(
graph @whole(%x: f64[2, s0, 4], %w: f64[3, 4], %b: f64[3]) {
  %y = aten.linear(%x, %w, %b) : f64[2, s0, 3]
  %z = aten.tanh(%y) : f64[2, s0, 3]
  return %z
})";

constexpr std::string_view kLinearGathered = R"(
mesh @m = {"sp"=$P}
graph @parts(%x: f64[2, s0, 4], %w: f64[3, 4], %b: f64[3]) form=partitioned {
  %n = aten.sym_size.int(%x, 1) : int(s0)
  %xs = autosp.shard_slice(%x) {dim=1, major=1, length=%n, minor=1, group=group.sp} : f64[2, ceildiv(s0, $P), 4]
  %y = aten.linear(%xs, %w, %b) : f64[2, ceildiv(s0, $P), 3]
  %zs = aten.tanh(%y) : f64[2, ceildiv(s0, $P), 3]
  %z = autosp.all_gather(%zs) {dim=1, major=1, length=%n, minor=1, group=group.sp} : f64[2, s0, 3]
  return %z
})";

TEST_P(Partitioned, LinearThenAllGather) { EXPECT_TRUE(EqualsWhole(kLinear, kLinearGathered, ranks(), check())); }

TEST_P(Partitioned, LinearWithShardedOutput) {
  const std::string sharded = Without(kLinearGathered, "z", "zs");
  EXPECT_TRUE(EqualsWhole(kLinear, sharded, ranks(), check()));
  SpmdCheck with_layout = check();
  with_layout.compare.output_layouts = {Layout::Sharded(1, Dim::Symbol("s0"))};
  EXPECT_TRUE(EqualsWhole(kLinear, sharded, ranks(), with_layout));
}

// The sequence factor in the middle of a merged dim: [2, s0, 4] -> [2*s0*4], sharded on s0.
TEST_P(Partitioned, FactorInsideADim) {
  constexpr std::string_view kWhole = R"(
graph @whole(%x: f64[s0*8], %w: f64[2, 1, 4]) {
  %n = aten.sym_size.int(%x, 0) : int(s0*8)
  %s = sym.floordiv(%n, 8) : int(s0)
  %v = aten.view(%x, [2, %s, 4]) : f64[2, s0, 4]
  %y = aten.mul.Tensor(%v, %w) : f64[2, s0, 4]
  %z = aten.view(%y, [-1]) : f64[s0*8]
  return %z
})";
  constexpr std::string_view kParts = R"(
mesh @m = {"sp"=$P}
graph @parts(%x: f64[s0*8], %w: f64[2, 1, 4]) form=partitioned {
  %n = aten.sym_size.int(%x, 0) : int(s0*8)
  %s = sym.floordiv(%n, 8) : int(s0)
  %up = sym.add(%s, $P) : int(s0 + $P)
  %up1 = sym.sub(%up, 1) : int(s0 + $P - 1)
  %l = sym.floordiv(%up1, $P) : int(ceildiv(s0, $P))
  %xs = autosp.shard_slice(%x) {dim=0, major=2, length=%s, minor=4, group=group.sp} : f64[ceildiv(s0, $P)*8]
  %v = aten.view(%xs, [2, %l, 4]) : f64[2, ceildiv(s0, $P), 4]
  %y = aten.mul.Tensor(%v, %w) : f64[2, ceildiv(s0, $P), 4]
  %zs = aten.view(%y, [-1]) : f64[ceildiv(s0, $P)*8]
  return %zs
})";
  SpmdCheck options = check();
  options.compare.output_layouts = {Layout::Sharded(0, Dim::Symbol("s0"), 2, 4)};
  EXPECT_TRUE(EqualsWhole(kWhole, kParts, ranks(), options));
}

constexpr std::string_view kAttention = R"(
graph @whole(%q: f64[2, 4, s0, 8], %k: f64[2, 4, s0, 8], %v: f64[2, 4, s0, 8]) {
  %o = aten.scaled_dot_product_attention(%q, %k, %v) {is_causal=true} : f64[2, 4, s0, 8]
  return %o
})";

constexpr std::string_view kUlysses = R"(
mesh @m = {"sp"=$P}
graph @parts(%q: f64[2, 4, s0, 8], %k: f64[2, 4, s0, 8], %v: f64[2, 4, s0, 8]) form=partitioned {
  %n = aten.sym_size.int(%q, 2) : int(s0)
  %qs = autosp.shard_slice(%q) {dim=2, major=1, length=%n, minor=1, group=group.sp} : f64[2, 4, ceildiv(s0, $P), 8]
  %ks = autosp.shard_slice(%k) {dim=2, major=1, length=%n, minor=1, group=group.sp} : f64[2, 4, ceildiv(s0, $P), 8]
  %vs = autosp.shard_slice(%v) {dim=2, major=1, length=%n, minor=1, group=group.sp} : f64[2, 4, ceildiv(s0, $P), 8]
  %qh = autosp.all_to_all(%qs) {dim=2, major=1, length=%n, minor=1, to_dim=1, to_major=1, to_length=4, to_minor=1, group=group.sp} : f64[2, ceildiv(4, $P), s0, 8]
  %kh = autosp.all_to_all(%ks) {dim=2, major=1, length=%n, minor=1, to_dim=1, to_major=1, to_length=4, to_minor=1, group=group.sp} : f64[2, ceildiv(4, $P), s0, 8]
  %vh = autosp.all_to_all(%vs) {dim=2, major=1, length=%n, minor=1, to_dim=1, to_major=1, to_length=4, to_minor=1, group=group.sp} : f64[2, ceildiv(4, $P), s0, 8]
  %oh = aten.scaled_dot_product_attention(%qh, %kh, %vh) {is_causal=true} : f64[2, ceildiv(4, $P), s0, 8]
  %o = autosp.all_to_all(%oh) {dim=1, major=1, length=4, minor=1, to_dim=2, to_major=1, to_length=%n, to_minor=1, group=group.sp} : f64[2, 4, ceildiv(s0, $P), 8]
  return %o
})";

TEST_P(Partitioned, UlyssesAttention) { EXPECT_TRUE(EqualsWhole(kAttention, kUlysses, ranks(), check())); }

TEST_P(SeveralRanks, AttentionWithoutTheExchangeOfKeysIsNoticed) {
  std::string local = Without(Without(Without(kUlysses, "qh", "qs"), "kh", "ks"), "vh", "vs");
  local = Without(local, "o", "oh");
  for (const std::string_view stale : {"ceildiv(4, $P), s0"}) {
    for (std::size_t at = local.find(stale); at != std::string::npos; at = local.find(stale)) {
      local.replace(at, stale.size(), "4, ceildiv(s0, $P)");
    }
  }
  EXPECT_TRUE(DiffersFromWhole(kAttention, local, ranks(), check()));
}

// A mean and a maximum over the sequence: padding must not count.
constexpr std::string_view kReductions = R"(
graph @whole(%x: f64[2, s0, 4], %w: f64[4, 4]) {
  %n = aten.sym_size.int(%x, 1) : int(s0)
  %h = aten.matmul(%x, %w) : f64[2, s0, 4]
  %mean = aten.mean.dim(%h, [1]) : f64[2, 4]
  %max = aten.amax(%h, [1]) : f64[2, 4]
  %least = aten.amin(%h, [1]) : f64[2, 4]
  return %mean, %max, %least
})";

constexpr std::string_view kMaskedReductions = R"(
mesh @m = {"sp"=$P}
graph @parts(%x: f64[2, s0, 4], %w: f64[4, 4]) form=partitioned {
  %n = aten.sym_size.int(%x, 1) : int(s0)
  %xs = autosp.shard_slice(%x) {dim=1, length=%n, group=group.sp} : f64[2, ceildiv(s0, $P), 4]
  %h = aten.matmul(%xs, %w) : f64[2, ceildiv(s0, $P), 4]
  %zeroed = autosp.mask_padding(%h) {dim=1, major=1, length=%n, minor=1, value=0, group=group.sp} : f64[2, ceildiv(s0, $P), 4]
  %part = aten.sum.dim_IntList(%zeroed, [1]) : f64[2, 4]
  %sum = autosp.all_reduce(%part) {reduce="sum", group=group.sp} : f64[2, 4]
  %mean = aten.div.Tensor(%sum, %n) : f64[2, 4]
  %lowered = autosp.mask_padding(%h) {dim=1, major=1, length=%n, minor=1, value=-inf, group=group.sp} : f64[2, ceildiv(s0, $P), 4]
  %localmax = aten.amax(%lowered, [1]) : f64[2, 4]
  %max = autosp.all_reduce(%localmax) {reduce="max", group=group.sp} : f64[2, 4]
  %raised = autosp.mask_padding(%h) {dim=1, major=1, length=%n, minor=1, value=inf, group=group.sp} : f64[2, ceildiv(s0, $P), 4]
  %localmin = aten.amin(%raised, [1]) : f64[2, 4]
  %least = autosp.all_reduce(%localmin) {reduce="min", group=group.sp} : f64[2, 4]
  return %mean, %max, %least
})";

TEST_P(Partitioned, MaskedReductions) { EXPECT_TRUE(EqualsWhole(kReductions, kMaskedReductions, ranks(), check())); }

TEST_P(Partitioned, AMissingMaskIsNoticedExactlyWhenThereIsPadding) {
  const std::string unmasked = Without(kMaskedReductions, "zeroed", "h");
  EXPECT_EQ(padded(), static_cast<bool>(DiffersFromWhole(kReductions, unmasked, ranks(), check())));
  EXPECT_EQ(!padded(), static_cast<bool>(EqualsWhole(kReductions, unmasked, ranks(), check())));
}

TEST_P(Partitioned, ReduceScatter) {
  // Every rank holds the terms of its own slice of the contracted dim, the sum is wanted in shards.
  constexpr std::string_view kWhole = R"(
graph @whole(%x: f64[5, s0], %w: f64[s0, 6]) {
  %y = aten.mm(%x, %w) : f64[5, 6]
  return %y
})";
  constexpr std::string_view kParts = R"(
mesh @m = {"sp"=$P}
graph @parts(%x: f64[5, s0], %w: f64[s0, 6]) form=partitioned {
  %n = aten.sym_size.int(%x, 1) : int(s0)
  %xs = autosp.shard_slice(%x) {dim=1, major=1, length=%n, minor=1, group=group.sp} : f64[5, ceildiv(s0, $P)]
  %xz = autosp.mask_padding(%xs) {dim=1, major=1, length=%n, minor=1, value=0.0, group=group.sp} : f64[5, ceildiv(s0, $P)]
  %ws = autosp.shard_slice(%w) {dim=0, major=1, length=%n, minor=1, group=group.sp} : f64[ceildiv(s0, $P), 6]
  %t = aten.mm(%xz, %ws) : f64[5, 6]
  %y = autosp.reduce_scatter(%t) {reduce="sum", dim=0, major=1, length=5, minor=1, group=group.sp} : f64[ceildiv(5, $P), 6]
  return %y
})";
  EXPECT_TRUE(EqualsWhole(kWhole, kParts, ranks(), check()));
}

// Embedding and cross entropy with ignored labels: the mean is the sum over the ranks divided by the whole count.
constexpr std::string_view kLoss = R"(
graph @whole(%ids: i64[2, s0], %labels: i64[2, s0], %ignored: bool[2, s0], %e: f64[11, 4], %w: f64[11, 4]) {
  %x = aten.embedding(%e, %ids) : f64[2, s0, 4]
  %logits = aten.linear(%x, %w) : f64[2, s0, 11]
  %targets = aten.masked_fill.Scalar(%labels, %ignored, -100) : i64[2, s0]
  %flat = aten.view(%logits, [-1, 11]) : f64[s0*2, 11]
  %flat_targets = aten.view(%targets, [-1]) : i64[s0*2]
  %loss = aten.cross_entropy_loss(%flat, %flat_targets) : f64[]
  return %loss
})";

constexpr std::string_view kShardedLoss = R"(
mesh @m = {"sp"=$P}
graph @parts(%ids: i64[2, s0], %labels: i64[2, s0], %ignored: bool[2, s0], %e: f64[11, 4], %w: f64[11, 4]) form=partitioned {
  %n = aten.sym_size.int(%ids, 1) : int(s0)
  %idss = autosp.shard_slice(%ids) {dim=1, major=1, length=%n, minor=1, group=group.sp} : i64[2, ceildiv(s0, $P)]
  %x = aten.embedding(%e, %idss) : f64[2, ceildiv(s0, $P), 4]
  %logits = aten.linear(%x, %w) : f64[2, ceildiv(s0, $P), 11]
  %targets = aten.masked_fill.Scalar(%labels, %ignored, -100) : i64[2, s0]
  %shard = autosp.shard_slice(%targets) {dim=1, major=1, length=%n, minor=1, group=group.sp} : i64[2, ceildiv(s0, $P)]
  %masked = autosp.mask_padding(%shard) {dim=1, major=1, length=%n, minor=1, value=-100, group=group.sp} : i64[2, ceildiv(s0, $P)]
  %flat = aten.view(%logits, [-1, 11]) : f64[ceildiv(s0, $P)*2, 11]
  %flat_targets = aten.view(%masked, [-1]) : i64[ceildiv(s0, $P)*2]
  %term = aten.cross_entropy_loss(%flat, %flat_targets) {reduction=2} : f64[]
  %total = autosp.all_reduce(%term) {reduce="sum", group=group.sp} : f64[]
  %valid = aten.ne.Scalar(%targets, -100) : bool[2, s0]
  %count = aten.sum(%valid) : i64[]
  %loss = aten.div.Tensor(%total, %count) : f64[]
  return %loss
})";

TEST_P(Partitioned, EmbeddingAndCrossEntropy) { EXPECT_TRUE(EqualsWhole(kLoss, kShardedLoss, ranks(), check())); }

TEST_P(SeveralRanks, AMissingAllReduceIsNoticed) {
  const std::string broken = Without(kShardedLoss, "total", "term");
  EXPECT_TRUE(DiffersFromWhole(kLoss, broken, ranks(), check()));
}

TEST_P(SeveralRanks, ADoubledAllReduceIsNoticed) {
  std::string broken(kShardedLoss);
  broken.replace(broken.find("%loss = aten.div.Tensor(%total"), 30, "%loss = aten.div.Tensor(%twice");
  broken.insert(broken.find("  %valid"),
                "  %twice = autosp.all_reduce(%total) {reduce=\"sum\", group=group.sp} : f64[]\n");
  EXPECT_TRUE(DiffersFromWhole(kLoss, broken, ranks(), check()));
}

// The value of the loss is right and only a gradient is wrong: the gathered logits go through no_grad.
TEST(PartitionedGradients, AGradientThatIsLostIsNoticed) {
  constexpr std::string_view kWhole = R"(
graph @whole(%x: f64[s0, 4], %w: f64[4, 4]) {
  %y = aten.mm(%x, %w) : f64[s0, 4]
  %loss = aten.sum(%y) : f64[]
  return %loss
})";
  constexpr std::string_view kParts = R"(
mesh @m = {"sp"=$P}
graph @parts(%x: f64[s0, 4], %w: f64[4, 4]) form=partitioned {
  %n = aten.sym_size.int(%x, 0) : int(s0)
  %xs = autosp.shard_slice(%x) {dim=0, major=1, length=%n, minor=1, group=group.sp} : f64[ceildiv(s0, $P), 4]
  %y = aten.mm(%xs, %w) : f64[ceildiv(s0, $P), 4]
  %part = aten.sum(%y) : f64[]
  %kept = aten.detach(%part) : f64[]
  %loss = autosp.all_reduce(%part) {reduce="sum", group=group.sp} : f64[]
  %back = aten.sub.Tensor(%part, %kept) : f64[]
  %wrong = aten.add.Tensor(%loss, %back) : f64[]
  return %wrong
})";
  const Expected<Comparison> comparison = CompareTexts(kWhole, kParts, 2, {.inputs = {.sizes = {{"s0", 6}}}});
  ASSERT_TRUE(comparison.ok()) << comparison.status().ToString();
  EXPECT_LE(comparison->worst_output(), 1e-12);
  EXPECT_NEAR(comparison->worst_gradient(), 0.5, 1e-9) << comparison->ToString();
}

TEST(PartitionedGradients, TheFirstValueThatDiffersIsNamed) {
  const std::string broken = Without(kMaskedReductions, "sum", "part");
  const Expected<Comparison> comparison = CompareTexts(kReductions, broken, 2, {.inputs = {.sizes = {{"s0", 8}}}});
  ASSERT_TRUE(comparison.ok()) << comparison.status().ToString();
  EXPECT_FALSE(comparison->equal());
  // %part / n is still a term of the mean, so every named value is explained; the output on each rank is not.
  EXPECT_EQ(comparison->first_suspect, "");
  // A factor inside a merged dim ([2, s0] as s0*2) is recognised as a shard of it.
  const Expected<Comparison> loss =
      CompareTexts(kLoss, Without(kShardedLoss, "total", "term"), 2, {.inputs = {.sizes = {{"s0", 7}}}});
  ASSERT_TRUE(loss.ok()) << loss.status().ToString();
  EXPECT_FALSE(loss->equal());
  EXPECT_EQ(loss->first_suspect, "");
  const std::string scaled = [] {
    std::string text(kMaskedReductions);
    text.replace(text.find("aten.matmul(%xs, %w)"), 20, "aten.matmul(%xs, %w2)");
    text.insert(text.find("  %h = "), "  %w2 = aten.mul.Tensor(%w, 2.0) : f64[4, 4]\n");
    return text;
  }();
  const Expected<Comparison> other = CompareTexts(kReductions, scaled, 2, {.inputs = {.sizes = {{"s0", 8}}}});
  ASSERT_TRUE(other.ok()) << other.status().ToString();
  EXPECT_EQ(other->first_suspect, "%h = aten.matmul");
}

}  // namespace
}  // namespace autosp::testing
