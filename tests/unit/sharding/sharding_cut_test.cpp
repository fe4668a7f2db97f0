// The minimum cut against every labelling of small programs, priced by the definition and not by a network.
#include <autosp/ir/parser.h>
#include <autosp/ir/printer.h>
#include <autosp/sharding/op_rules.h>
#include <autosp/sharding/sharding_cut.h>

#include <gtest/gtest.h>

#include <limits>
#include <random>

namespace autosp {
namespace {

constexpr double kSlice = 1024;

// A program of a few calls over [1, n, 8]; every call reads earlier values. `random` decides all.
std::string RandomProgram(std::mt19937& random, int calls) {
  const auto pick = [&](int count) { return static_cast<int>(random() % static_cast<unsigned>(count)); };
  const int n = 16 << pick(4);
  const std::string shape = "f32[1, " + std::to_string(n) + ", 8]";
  std::string text = "mesh @m = {\"sp\"=" + std::to_string(2 << pick(2)) + "}\ngraph @g(%ids: i64[1, " +
                     std::to_string(n) + "] tag=1, %w: f32[32, 8] grad, %a: f32[8, 8] grad) form=normalized {\n" +
                     "  %v0 = aten.embedding(%w, %ids) : " + shape + " grad\n";
  for (int i = 1; i < calls; ++i) {
    const std::string one = "%v" + std::to_string(pick(i));
    const std::string other = "%v" + std::to_string(pick(i));
    const std::vector<std::string> choices{
        "aten.gelu(" + one + ")",           "aten.linear(" + one + ", %a)",
        "aten.cumsum(" + one + ", 1)",      "aten.softmax.int(" + one + ", 2)",
        "aten.roll(" + one + ", [1], [1])", "aten.add.Tensor(" + one + ", " + other + ")",
    };
    text += "  %v" + std::to_string(i) + " = " + choices[pick(static_cast<int>(choices.size()))] + " : " + shape +
            " grad\n";
  }
  const std::string last = "%v" + std::to_string(calls - 1);
  return text + "  %l = aten.sum(" + last + ") : f32[] grad\n  return %l, %v" + std::to_string(pick(calls)) + "\n}\n";
}

class Pricing {
 public:
  Pricing(const Graph& graph, const CutCandidates& candidates, bool gather_outputs)
      : graph_(graph), candidates_(candidates), gather_outputs_(gather_outputs) {}

  double Of(const std::set<const Node*>& cut) const {
    double price = 0;
    std::set<std::string> gathered, sliced;
    for (const auto& node : graph_.nodes()) {
      const CutCandidate* candidate = candidates_.Of(*node);
      if (node->is_output() && gather_outputs_) {
        for (const Node* value : node->operands()) price += Gather(*value, cut, gathered);
      }
      if (candidate == nullptr) continue;
      const bool is_cut = cut.contains(node.get());
      if (candidate->cut && !is_cut) price += WholePrice(graph_, *node, *candidate);
      if (is_cut) price += WhenCut(*node, *candidate);
      for (std::size_t i = 0; i < candidate->mapping.operands.size(); ++i) {
        const Node& value = *candidate->mapping.operands[i].value;
        const Layout needed = is_cut ? candidate->strategy.operands[i] : Layout::Replicated();
        if (!needed.is_sharded()) {
          price += Gather(value, cut, gathered);
        } else if (!cut.contains(&value)) {
          const bool new_slice = sliced.insert(value.name + needed.ToString()).second;
          price += new_slice ? kSlice : 0;
        }
      }
      if (is_cut && candidate->mapping.factors[candidate->cut->factor].kind == FactorKind::kReduction &&
          !cut.contains(candidate->mapping.operands[candidate->primary].value)) {
        return std::numeric_limits<double>::infinity();
      }
    }
    return price;
  }

 private:
  double WhenCut(const Node& node, const CutCandidate& candidate) const {
    const Layout& computed = candidate.strategy.results[0];
    return computed.is_partial() ? ReshardPrice(graph_, node.type, computed, Layout::Replicated()) : 0;
  }

  double Gather(const Node& value, const std::set<const Node*>& cut, std::set<std::string>& gathered) const {
    const Layout layout = candidates_.WhenCut(value);
    if (!cut.contains(&value) || !layout.is_sharded() || !gathered.insert(value.name).second) return 0;
    return ReshardPrice(graph_, value.type, layout, Layout::Replicated());
  }

  const Graph& graph_;
  const CutCandidates& candidates_;
  const bool gather_outputs_;
};

TEST(ShardingCut, NoLabellingOfASmallProgramIsCheaper) {
  const RuleTable rules = std::move(RuleTable::BuiltIn().value());
  std::mt19937 random(7);
  int mixed = 0;
  for (int round = 0; round < 300; ++round) {
    const std::string text = RandomProgram(random, 3 + static_cast<int>(random() % 8));
    const bool gather_outputs = round % 3 == 0;
    const Graph graph = std::move(Parse(text, "program").value());
    const CutCandidates candidates = CutCandidates::Find(graph, rules, {});
    const Pricing pricing(graph, candidates, gather_outputs);
    const std::set<const Node*> chosen = ChooseCutCalls(graph, candidates, gather_outputs);
    std::vector<const Node*> free;
    for (const auto& node : graph.nodes()) {
      const CutCandidate* candidate = candidates.Of(*node);
      if (candidate != nullptr && candidate->cut) free.push_back(node.get());
    }
    double least = std::numeric_limits<double>::infinity();
    for (unsigned labels = 0; labels < (1U << free.size()); ++labels) {
      std::set<const Node*> cut;
      for (std::size_t i = 0; i < free.size(); ++i) {
        if ((labels >> i & 1U) != 0) cut.insert(free[i]);
      }
      least = std::min(least, pricing.Of(cut));
    }
    // Capacities are whole bytes: each rounds by half a byte at most.
    EXPECT_NEAR(pricing.Of(chosen), least, 0.5 * static_cast<double>(2 * graph.size())) << text;
    if (!chosen.empty() && chosen.size() < free.size()) ++mixed;
  }
  EXPECT_GT(mixed, 30) << "too few programs in which some calls are cut and some are not";
}

TEST(ShardingCut, AllAnswersAreTheSameTwice) {
  const RuleTable rules = std::move(RuleTable::BuiltIn().value());
  std::mt19937 random(11);
  for (int round = 0; round < 20; ++round) {
    const std::string text = RandomProgram(random, 12);
    std::vector<std::string> names[2];
    for (auto& list : names) {
      const Graph graph = std::move(Parse(text, "program").value());
      const CutCandidates candidates = CutCandidates::Find(graph, rules, {});
      const std::set<const Node*> cut = ChooseCutCalls(graph, candidates, false);
      for (const auto& node : graph.nodes()) {
        if (cut.contains(node.get())) list.push_back(node->name);
      }
    }
    EXPECT_EQ(names[0], names[1]);
  }
}

}  // namespace
}  // namespace autosp
