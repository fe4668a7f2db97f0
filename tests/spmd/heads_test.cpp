// Any number of heads on any number of ranks: attention whose heads the ranks do not divide, with every kind of mask,
// against the unsharded program in value and in every gradient.
#include <autosp/ir/printer.h>

#include <autosp_pipeline.h>

#include <optional>

#include "spmd_check.h"

namespace autosp::testing {
namespace {

// plain: no mask; causal: is_causal; shared: a bool mask for all heads; per_head: a bool mask that differs by head;
// alibi: a float bias with a slope per head, which is trained.
struct Case {
  int heads, kv_heads, ranks;
  std::int64_t length;
  std::string mask;
  bool repeated = false;  // The program repeats kv heads itself: unsqueeze, expand, reshape.
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << (c.repeated ? "repeated_" : "") << c.mask << "_h" << c.heads << "_kv" << c.kv_heads << "_p" << c.ranks
             << "_s" << c.length;
}

// The text with $H query heads, $G kv heads and the widths $Q and $K of their projections put in.
std::string Filled(std::string text, const Case& c) {
  for (const auto& [key, number] : std::vector<std::pair<std::string, int>>{{"$H", c.heads},
                                                                            {"$G", c.kv_heads},
                                                                            {"$Q", 2 * c.heads},
                                                                            {"$K", 2 * c.kv_heads},
                                                                            {"$R", c.heads / c.kv_heads}}) {
    for (std::size_t at = text.find(key); at != std::string::npos; at = text.find(key, at)) {
      text.replace(at, key.size(), std::to_string(number));
    }
  }
  return text;
}

// A layer: projections to heads of size 2, attention, projection back, a mean loss.
std::string ProgramOf(const Case& c) {
  std::string masks;
  std::string argument;
  if (c.mask != "plain" && c.mask != "causal") {
    masks = R"(  %range = aten.arange(%s) {device=device.cpu} : i64[s0]
  %rows = aten.unsqueeze(%range, 1) : i64[s0, 1]
  %apart = aten.sub.Tensor(%rows, %range) : i64[s0, s0]
)";
  }
  if (c.mask == "causal") argument = ", none, 0.0, true";
  if (c.mask == "shared") {
    masks += "  %mask = aten.ge.Scalar(%apart, 0) : bool[s0, s0]\n";
    argument = ", %mask";
  }
  if (c.mask == "per_head") {  // Head i sees the last i + 1 keys before its query, and the query's own.
    masks += R"(  %of_head = aten.arange($H) {device=device.cpu} : i64[$H]
  %reach = aten.reshape(%of_head, [$H, 1, 1]) : i64[$H, 1, 1]
  %far = aten.le.Tensor(%apart, %reach) : bool[$H, s0, s0]
  %past = aten.ge.Scalar(%apart, 0) : bool[s0, s0]
  %mask = aten.logical_and(%far, %past) : bool[$H, s0, s0]
)";
    argument = ", %mask";
  }
  if (c.mask == "alibi") {
    masks += R"(  %distance = aten.abs(%apart) : i64[s0, s0]
  %bias = aten.mul.Tensor(%slope, %distance) : f64[1, $H, s0, s0] grad
)";
    argument = ", %bias";
  }
  std::string repeat;
  if (c.repeated) {
    repeat = R"(  %ku = aten.unsqueeze(%k0, 2) : f64[2, $G, 1, s0, 2] grad
  %ke = aten.expand(%ku, [-1, -1, $R, %s, -1]) : f64[2, $G, $R, s0, 2] grad
  %kt = aten.reshape(%ke, [2, $H, %s, 2]) : f64[2, $H, s0, 2] grad
  %vu = aten.unsqueeze(%v0, 2) : f64[2, $G, 1, s0, 2] grad
  %ve = aten.expand(%vu, [2, $G, $R, %s, 2]) : f64[2, $G, $R, s0, 2] grad
  %vc = aten.clone(%ve) {memory_format=memory_format.contiguous} : f64[2, $G, $R, s0, 2] grad
  %vt = aten.view(%vc, [2, $H, %s, 2]) : f64[2, $H, s0, 2] grad
)";
  }
  const std::string name = c.repeated ? "0" : "t";
  // One kv head is broadcast without being asked for.
  const bool asked = !c.repeated && c.heads != c.kv_heads && (c.kv_heads != 1 || c.mask != "plain");
  const std::string attributes = asked ? "enable_gqa=true" : "scale=0.5";
  return Filled(R"(hints {s0=8}
graph @heads(%w: f64[32, 6] grad, %wq: f64[$Q, 6] grad, %wk: f64[$K, 6] grad, %wv: f64[$K, 6] grad, %wo: f64[6, $Q] grad,
    %slope: f64[1, $H, 1, 1] grad, %s: int(s0), %ids: i64[2, s0] tag=1, %labels: i64[2, s0] tag=1) {
  %x = aten.embedding(%w, %ids) : f64[2, s0, 6] grad
  %q = aten.linear(%x, %wq) : f64[2, s0, $Q] grad
  %k = aten.linear(%x, %wk) : f64[2, s0, $K] grad
  %v = aten.linear(%x, %wv) : f64[2, s0, $K] grad
  %qv = aten.view(%q, [2, %s, $H, 2]) : f64[2, s0, $H, 2] grad
  %kv = aten.view(%k, [2, %s, $G, 2]) : f64[2, s0, $G, 2] grad
  %vv = aten.view(%v, [2, %s, $G, 2]) : f64[2, s0, $G, 2] grad
  %qt = aten.transpose.int(%qv, 1, 2) : f64[2, $H, s0, 2] grad
  %k)" + name + R"( = aten.transpose.int(%kv, 1, 2) : f64[2, $G, s0, 2] grad
  %v)" + name + R"( = aten.transpose.int(%vv, 1, 2) : f64[2, $G, s0, 2] grad
)" + repeat + masks +
                    "  %o = aten.scaled_dot_product_attention(%qt, %kt, %vt" + argument + ") {" + attributes +
                    R"(} : f64[2, $H, s0, 2] grad
  %ot = aten.transpose.int(%o, 1, 2) : f64[2, s0, $H, 2] grad
  %or = aten.reshape(%ot, [2, %s, -1]) : f64[2, s0, $Q] grad
  %h = aten.linear(%or, %wo) : f64[2, s0, 6] grad
  %y = aten.add.Tensor(%x, %h) : f64[2, s0, 6] grad
  %logits = aten.linear(%y, %w) : f64[2, s0, 32] grad
  %l2 = aten.view(%logits, [-1, 32]) : f64[s0*2, 32] grad
  %t2 = aten.view(%labels, [-1]) : i64[s0*2]
  %loss = aten.cross_entropy_loss(%l2, %t2) : f64[] grad
  return %loss
})",
                c);
}

class HeadsTest : public ::testing::TestWithParam<Case> {};

TEST_P(HeadsTest, EqualWhole) {
  const Case c = GetParam();
  const Expected<Graph> whole = Parse(ProgramOf(c), "program");
  ASSERT_TRUE(whole.ok()) << whole.status().ToString() << ProgramOf(c);
  Graph graph = whole->Clone();
  graph.hints()["s0"] = c.length;
  CompileOptions options;
  options.pipeline = "autosp-no-lower";
  options.pass.sequence_parallel_size = c.ranks;
  const Expected<CompileResult> result = compile(graph, options);
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  SpmdCheck check;
  check.inputs.sizes["s0"] = c.length;
  EXPECT_TRUE(EqualsWhole(*whole, graph, c.ranks, check)) << Print(graph);
  Graph lowered = whole->Clone();
  lowered.hints()["s0"] = c.length;
  options.pipeline = "autosp";
  options.pass.collectives = "functional";
  const Expected<CompileResult> lowering = compile(lowered, options);
  ASSERT_TRUE(lowering.ok()) << lowering.status().ToString();
  EXPECT_TRUE(EqualsWhole(*whole, lowered, c.ranks, check)) << Print(lowered);

  // Never more slots than whole groups need, nor than heads that are all made query heads first.
  std::int64_t slots = 0;
  for (const auto& node : graph.nodes()) {
    if (!node->is_call("aten.scaled_dot_product_attention")) continue;
    slots = c.ranks * node->type.shape[1].constant().value_or(0);
  }
  const auto round_up = [&](std::int64_t n) { return (n + c.ranks - 1) / c.ranks * c.ranks; };
  EXPECT_GE(slots, c.heads);
  EXPECT_LE(slots, round_up(c.heads));
  if (c.repeated) {  // Exchanged as g heads where P divides them, else as the h slots.
    const bool before = c.kv_heads % c.ranks == 0;
    std::vector<std::int64_t> sent;
    for (const auto& node : graph.nodes()) {
      const Argument* length = node->is_call("autosp.all_to_all") ? node->attribute("to_length") : nullptr;
      if (length != nullptr && length->get<std::int64_t>() != nullptr && node->args[0].node()->name[0] != 'q') {
        sent.push_back(*length->get<std::int64_t>());
      }
    }
    EXPECT_EQ(sent, std::vector<std::int64_t>(2, before ? c.kv_heads : round_up(c.heads))) << Print(graph);
    return;
  }
  EXPECT_LE(slots, round_up(c.kv_heads) * (c.heads / c.kv_heads));
}

// What is computed for nothing is told, and loudly when it is more than half.
TEST(Heads, TheWasteIsTold) {
  const auto told = [](const Case& c) -> std::optional<Remark> {
    Expected<Graph> graph = Parse(ProgramOf(c), "program");
    CompileOptions options;
    options.pass.sequence_parallel_size = c.ranks;
    const Expected<CompileResult> result = compile(*graph, options);
    EXPECT_TRUE(result.ok());
    for (const Remark& remark : result->remarks) {
      if (remark.pass == "pad-attention-heads") return remark;
    }
    return std::nullopt;
  };
  const std::optional<Remark> little = told({7, 7, 4, 8, "causal"});
  ASSERT_TRUE(little);
  EXPECT_EQ(little->text, "7 of 8 head slots are real: 12 % of the attention is waste on 4 ranks");
  EXPECT_FALSE(little->warning);
  const std::optional<Remark> much = told({3, 3, 8, 16, "causal"});
  ASSERT_TRUE(much);
  EXPECT_EQ(much->text, "3 of 8 head slots are real: 62 % of the attention is waste on 8 ranks");
  EXPECT_TRUE(much->warning);
  EXPECT_FALSE(told({8, 2, 4, 8, "causal"}));
}

// All numbers of ranks and heads; masks and lengths take turns, so that each meets each.
std::vector<Case> AllCases() {
  const std::vector<std::string> masks = {"causal", "plain", "shared", "per_head", "alibi"};
  const std::vector<std::int64_t> lengths = {16, 7, 11};
  std::vector<Case> cases;
  std::size_t turn = 0;
  for (int ranks = 2; ranks <= 8; ++ranks) {
    for (const int heads : {1, 2, 3, 5, 6, 7, 12}) {
      for (int kv_heads = 1; kv_heads <= heads; ++kv_heads) {
        if (heads % kv_heads != 0) continue;
        cases.push_back({heads, kv_heads, ranks, lengths[turn % lengths.size()], masks[turn % masks.size()]});
        ++turn;
      }
    }
  }
  for (const std::string& mask : masks) {
    for (const std::int64_t length : {8, 9}) cases.push_back({7, 7, 4, length, mask});
    for (const std::int64_t length : {8, 9}) cases.push_back({6, 3, 4, length, mask});
  }
  for (const auto& [heads, ranks] : std::vector<std::pair<int, int>>{{6, 2}, {12, 5}, {10, 3}}) {
    cases.push_back({heads, 1, ranks, 20, "plain"});
  }
  for (const auto& [heads, kv_heads, ranks] : std::vector<std::tuple<int, int, int>>{
           {8, 2, 2}, {8, 4, 2}, {12, 4, 4}, {12, 6, 2}, {12, 3, 3}, {8, 2, 4}, {6, 3, 4}, {5, 1, 2}}) {
    for (const std::int64_t length : {12, 7}) {
      for (const char* mask : {"causal", "per_head"}) cases.push_back({heads, kv_heads, ranks, length, mask, true});
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Counts, HeadsTest, ::testing::ValuesIn(AllCases()), [](const auto& info) {
  std::ostringstream name;
  name << info.param;
  return name.str();
});

}  // namespace
}  // namespace autosp::testing
