// The collectives that a lowered graph calls mean the same as the autosp.* ones they replace.
#include "spmd_check.h"

namespace autosp::testing {
namespace {

class Lowered : public ::testing::TestWithParam<int> {
 protected:
  static SpmdCheck check() { return {.inputs = {.sizes = {{"s0", 12}}}}; }
};

INSTANTIATE_TEST_SUITE_P(Ranks, Lowered, ::testing::Values(1, 2, 4), ::testing::PrintToStringParamName());

constexpr std::string_view kAttention = R"(
graph @whole(%q: f64[2, 4, s0, 8]) {
  %o = aten.scaled_dot_product_attention(%q, %q, %q) : f64[2, 4, s0, 8]
  return %o
})";

// The rank is read at run time, the exchange goes over a leading dim of size P.
constexpr std::string_view kUlysses = R"(
mesh @m = {"sp"=$P}
divisible {s0 % $P}
graph @parts(%q: f64[2, 4, s0, 8]) form=lowered {
  %n = aten.sym_size.int(%q, 2) : int(s0)
  %l = sym.floordiv(%n, $P) : int(floordiv(s0, $P))
  %r = autosp_fx.mesh_coordinate(group.sp, device.cpu) : i64[]
  %first = aten.mul.Tensor(%r, %l) : i64[]
  %range = aten.arange(%l) {dtype=dtype.i64, device=device.cpu, pin_memory=false} : i64[floordiv(s0, $P)]
  %index = aten.add.Tensor(%range, %first) : i64[floordiv(s0, $P)]
  %qs = aten.index_select(%q, 2, %index) : f64[2, 4, floordiv(s0, $P), 8]
  %split = aten.view(%qs, [2, $P, -1, %l, 8]) : f64[2, $P, floordiv(4, $P), floordiv(s0, $P), 8]
  %lead = aten.permute(%split, [1, 0, 2, 3, 4]) : f64[$P, 2, floordiv(4, $P), floordiv(s0, $P), 8]
  %send = aten.clone(%lead) {memory_format=memory_format.contiguous} : f64[$P, 2, floordiv(4, $P), floordiv(s0, $P), 8]
  %a = _c10d_functional.all_to_all_single(%send, $ONES, $ONES, group.sp) : f64[$P, 2, floordiv(4, $P), floordiv(s0, $P), 8]
  %w = _c10d_functional.wait_tensor(%a) : f64[$P, 2, floordiv(4, $P), floordiv(s0, $P), 8]
  %back = aten.permute(%w, [1, 2, 0, 3, 4]) : f64[2, floordiv(4, $P), $P, floordiv(s0, $P), 8]
  %qh = aten.reshape(%back, [2, -1, %n, 8]) : f64[2, floordiv(4, $P), s0, 8]
  %oh = aten.scaled_dot_product_attention(%qh, %qh, %qh) : f64[2, floordiv(4, $P), s0, 8]
  %osplit = aten.view(%oh, [2, -1, $P, %l, 8]) : f64[2, floordiv(4, $P), $P, floordiv(s0, $P), 8]
  %olead = aten.permute(%osplit, [2, 0, 1, 3, 4]) : f64[$P, 2, floordiv(4, $P), floordiv(s0, $P), 8]
  %osend = aten.clone(%olead) {memory_format=memory_format.contiguous} : f64[$P, 2, floordiv(4, $P), floordiv(s0, $P), 8]
  %oa = _c10d_functional.all_to_all_single(%osend, $ONES, $ONES, group.sp) : f64[$P, 2, floordiv(4, $P), floordiv(s0, $P), 8]
  %ow = _c10d_functional.wait_tensor(%oa) : f64[$P, 2, floordiv(4, $P), floordiv(s0, $P), 8]
  %oback = aten.permute(%ow, [1, 0, 2, 3, 4]) : f64[2, $P, floordiv(4, $P), floordiv(s0, $P), 8]
  %o = aten.reshape(%oback, [2, 4, %l, 8]) : f64[2, 4, floordiv(s0, $P), 8]
  return %o
})";

std::string WithOnes(std::string_view text, int ranks) {
  std::string ones = "[1";
  for (int i = 1; i < ranks; ++i) ones += ", 1";
  ones += "]";
  std::string result(text);
  for (std::size_t at = result.find("$ONES"); at != std::string::npos; at = result.find("$ONES", at)) {
    result.replace(at, 5, ones);
  }
  return result;
}

TEST_P(Lowered, AllToAllSingle) {
  EXPECT_TRUE(EqualsWhole(kAttention, WithOnes(kUlysses, GetParam()), GetParam(), check()));
}

TEST_P(Lowered, GatherReduceScatterAndAllReduce) {
  constexpr std::string_view kWhole = R"(
graph @whole(%x: f64[s0, 3], %w: f64[3, 4]) {
  %y = aten.mm(%x, %w) : f64[s0, 4]
  %g = aten.tanh(%y) : f64[s0, 4]
  %a = aten.sum(%g) : f64[]
  %twice = aten.mul.Tensor(%g, %g) : f64[s0, 4]
  return %g, %a, %twice
})";
  constexpr std::string_view kParts = R"(
mesh @m = {"sp"=$P}
graph @parts(%x: f64[s0, 3], %w: f64[3, 4]) form=lowered {
  %n = aten.sym_size.int(%x, 0) : int(s0)
  %l = sym.floordiv(%n, $P) : int(floordiv(s0, $P))
  %xs = autosp.shard_slice(%x) {dim=0, major=1, length=%n, minor=1, group=group.sp} : f64[floordiv(s0, $P), 3]
  %y = aten.mm(%xs, %w) : f64[floordiv(s0, $P), 4]
  %gs = aten.tanh(%y) : f64[floordiv(s0, $P), 4]
  %gg = _c10d_functional.all_gather_into_tensor(%gs, $P, group.sp) : f64[s0, 4]
  %g = _c10d_functional.wait_tensor(%gg) : f64[s0, 4]
  %part = aten.sum(%gs) : f64[]
  %ar = _c10d_functional.all_reduce(%part, "sum", group.sp) : f64[]
  %a = _c10d_functional.wait_tensor(%ar) : f64[]
  %wide = aten.mul.Tensor(%g, %g) : f64[s0, 4]
  %share = aten.div.Tensor(%wide, $P) : f64[s0, 4]
  %rs = _c10d_functional.reduce_scatter_tensor(%share, "sum", $P, group.sp) : f64[floordiv(s0, $P), 4]
  %twice = _c10d_functional.wait_tensor(%rs) : f64[floordiv(s0, $P), 4]
  return %g, %a, %twice
})";
  EXPECT_TRUE(EqualsWhole(kWhole, kParts, GetParam(), check()));
}

TEST_P(Lowered, ForeignGroupsAndWrongSizesAreRefused) {
  const auto run = [](std::string_view call) {
    const std::string text = "graph @g(%x: f64[4]) {\n  %y = " + std::string(call) + "\n  return %y\n}";
    const Expected<Comparison> comparison = CompareTexts(text, text, GetParam());
    return comparison.ok() ? "" : comparison.status().ToString();
  };
  EXPECT_NE(
      run("_c10d_functional.all_reduce(%x, \"sum\", group.dp) : f64[4]").find("the group \"dp\" is not simulated"),
      std::string::npos);
  EXPECT_NE(run("_c10d_functional.all_gather_into_tensor(%x, 8, group.sp) : f64[32]").find("the group size is 8 but"),
            std::string::npos);
  EXPECT_NE(run("_c10d_functional.all_reduce(%x, \"product\", group.sp) : f64[4]").find("\"product\" is not known"),
            std::string::npos);
  EXPECT_NE(
      run("_c10d_functional.all_to_all_single(%x, [1, 1, 2], [1, 1, 2], group.sp) : f64[4]").find("has 3 elements for"),
      std::string::npos);
}

}  // namespace
}  // namespace autosp::testing
