#include <autosp/analysis/memory_profile.h>
#include <autosp/ir/parser.h>

#include <gtest/gtest.h>

namespace autosp {
namespace {

// f32[250] is 1000 bytes.
constexpr std::string_view kChain = R"(
graph @g(%x: f32[250], %t: f32[250] tangent) form=joint {
  %a = aten.sin(%x) : f32[250]
  %v = aten.view(%a, [25, 10]) : f32[25, 10]
  %b = aten.cos(%v) : f32[25, 10]
  %c = aten.exp(%b) : f32[25, 10]
  %gc = aten.mul.Tensor(%t, %c) : f32[25, 10]
  %gb = aten.mul.Tensor(%gc, %v) : f32[25, 10]
  %gx = aten.mul.Tensor(%gb, %x) : f32[250]
  return %c backward %gx
})";

struct Simulated {
  Graph graph;
  JointView view;
  explicit Simulated(std::string_view text, bool tangents_held = false)
      : graph(std::move(Parse(text, "test").value())), view(graph, {}, *FindDevice("cpu"), tangents_held) {}
  int At(std::string_view name) const {
    for (int i = 0; i < view.size(); ++i) {
      if (view[i].node->name == name) return i;
    }
    return -1;
  }
  MemoryProfile Run(const std::vector<std::string_view>& keep, const std::vector<std::string_view>& recompute) const {
    CheckpointChoice choice{std::vector<bool>(view.size(), false), std::vector<bool>(view.size(), false)};
    for (const auto name : keep) choice.keep[At(name)] = true;
    for (const auto name : recompute) choice.recompute[At(name)] = true;
    return SimulateMemory(view, choice);
  }
};

TEST(MemoryProfile, AViewCostsNothingAndItsBaseStays) {
  const Simulated s(kChain);
  EXPECT_EQ(s.view[s.At("v")].bytes, 0);
  EXPECT_EQ(s.view[s.At("v")].storage, s.At("a"));
  const MemoryProfile profile = s.Run({"a", "c"}, {"v"});
  EXPECT_EQ(profile.kept, 1000);           // c is returned by the forward and costs nothing more.
  EXPECT_EQ(profile.forward_peak, 3000);   // a, b, c
  EXPECT_EQ(profile.backward_peak, 4000);  // a, c, t, gc; without t, which goes after gc, and with gb
  EXPECT_EQ(profile.live.back(), 2000);    // c, gx
  EXPECT_EQ(profile.at->name, "gc");
}

TEST(MemoryProfile, TangentsThatTheCallerHoldsStayToTheEnd) {
  const Simulated s(kChain, true);
  const MemoryProfile profile = s.Run({"a", "c"}, {"v"});
  EXPECT_EQ(profile.forward_peak, 3000);
  EXPECT_EQ(profile.backward_peak, 5000);  // a, c, t, gc, gb
  EXPECT_EQ(profile.at->name, "gb");
  EXPECT_EQ(profile.live.back(), 3000);  // c, gx, t
}

TEST(MemoryProfile, RecomputationRunsJustBeforeItsFirstReader) {
  const Simulated s(kChain);
  const MemoryProfile profile = s.Run({"c"}, {"a", "v"});
  EXPECT_EQ(profile.kept, 0);
  std::vector<std::string> names;
  for (std::size_t i = profile.backward_begin; i < profile.order.size(); ++i) {
    names.push_back(s.view[profile.order[i]].node->name);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"gc", "a", "v", "gb", "gx"}));
  EXPECT_EQ(profile.forward_peak, 2000);  // a and b, b and c beside what is freed after each
}

constexpr std::string_view kTuple = R"(
graph @g(%x: f32[250], %t: f32[250] tangent) form=joint {
  %pair = aten.topk(%x, 250) : (f32[250], i64[250])
  %a = builtin.getitem(%pair, 0) : f32[250]
  %i = builtin.getitem(%pair, 1) : i64[250]
  %g = aten.gather(%t, 0, %i) : f32[250]
  return %a backward %g
})";

TEST(MemoryProfile, AnElementOfATupleOwnsItsMemory) {
  const Simulated s(kTuple);
  const MemoryProfile profile = s.Run({"i"}, {});
  EXPECT_EQ(profile.kept, 2000);
  EXPECT_EQ(profile.forward_peak, 3000);
  EXPECT_EQ(profile.backward_peak, 5000);  // a, i, t, g
}

constexpr std::string_view kBlocks = R"(
graph @g(%x: f32[250], %k: bool[250], %t: f32[250] tangent) form=joint {
  %m = aten.where.ScalarSelf(%k, 0.0, -inf) : f32[250] loc(module "layers.0")
  %a = aten.sin(%x) : f32[250] loc(module "layers.0")
  %h = aten.mul.Tensor(%a, %m) : f32[250] loc(module "layers.0")
  %b = aten.cos(%h) : f32[250] loc(module "layers.1.parts.0")
  %o = aten.mul.Tensor(%b, %m) : f32[250] loc(module "layers.1.parts.1")
  %g = aten.mul.Tensor(%t, %o) : f32[250]
  return %o backward %g
})";

TEST(JointView, WhatEachBlockMadeForItselfIsNoResultOfTheFirst) {
  const Simulated s(kBlocks);
  EXPECT_EQ(s.view.regions(), 2);
  EXPECT_TRUE(s.view[s.At("m")].shared);
  EXPECT_FALSE(s.view[s.At("h")].shared);
  EXPECT_TRUE(s.view.LeavesRegion(s.At("h")));
}

TEST(MemoryProfile, WhatComesBeforeTheFirstTangentWaitsForItsReader) {
  const Simulated s(R"(
graph @g(%x: f32[250], %t: f32[250] tangent) form=joint {
  %a = aten.sin(%x) : f32[250]
  %early = aten.cos(%x) : f32[250]
  %g = aten.mul.Tensor(%t, %a) : f32[250]
  %late = aten.exp(%x) : f32[250]
  %g1 = aten.mul.Tensor(%g, %g) : f32[250]
  %g2 = aten.mul.Tensor(%g1, %late) : f32[250]
  %g3 = aten.mul.Tensor(%g2, %early) : f32[250]
  return %a backward %g3
})");
  const MemoryProfile profile = s.Run({"a"}, {});
  std::vector<std::string> names;
  for (std::size_t i = profile.backward_begin; i < profile.order.size(); ++i) {
    names.push_back(s.view[profile.order[i]].node->name);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"g", "late", "g1", "g2", "early", "g3"}));
}

}  // namespace
}  // namespace autosp
