#include <autosp/sharding/sharding_cut.h>

#include <autosp/support/max_flow.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

namespace autosp {
namespace {

constexpr double kKeptByte = 4, kPassingByte = 0.05, kMultiplyAdd = 0.001, kSlice = 1024, kGatherUntrained = 65536;

constexpr int kSource = 0, kSink = 1;

double Bytes(const Graph& graph, const Type& type) {
  double bytes = type.is_tensor() ? ByteSize(type.dtype) : 0;
  for (const Dim& dim : type.shape) bytes *= static_cast<double>(dim.Evaluate(graph.hints()).value_or(1024));
  return bytes;
}

// The part of a whole value that other ranks hold or compute too.
double Excess(const Graph& graph) { return 1 - 1 / static_cast<double>(graph.axis_size()); }

MaxFlow::Capacity Rounded(double price) {
  constexpr double kLargest = static_cast<double>(MaxFlow::kInfinite >> 16);
  return std::llround(std::clamp(price, 0.0, kLargest));
}

class CutNetwork {
 public:
  CutNetwork(const Graph& graph, const CutCandidates& candidates, bool gather_outputs)
      : graph_(graph), candidates_(candidates), gather_outputs_(gather_outputs), network_(2) {}

  std::set<const Node*> Solve() {
    for (const auto& node : graph_.nodes()) AddCall(*node);
    for (const auto& node : graph_.nodes()) Connect(*node);
    network_.Solve(kSource, kSink);
    const std::vector<bool> whole = network_.SinkSide(kSink);
    std::set<const Node*> cut;
    for (const auto& node : graph_.nodes()) {
      const auto number = call_.find(node.get());
      if (number != call_.end() && !whole[number->second]) cut.insert(node.get());
    }
    return cut;
  }

 private:
  void AddCall(const Node& node) {
    const CutCandidate* candidate = candidates_.Of(node);
    if (candidate == nullptr || (candidate->has_rule && !candidate->cut)) return;
    const int call = call_[&node] = network_.AddNode();
    // Without a rule: refused if it reads what is cut, so it must not pull its operands to the whole side.
    const double price = candidate->has_rule ? WholePrice(graph_, node, *candidate) : 0;
    network_.AddEdge(kSource, call, candidate->has_rule ? Rounded(price) : MaxFlow::kInfinite);
    if (!candidate->has_rule) return;
    double own = 0;
    const std::vector<const Type*> types = TensorsOf(node.type);
    for (std::size_t r = 0; r < types.size(); ++r) {
      const Layout& computed = candidate->strategy.results[r];
      const Layout read = computed.is_partial() ? Layout::Replicated() : candidate->visible[r];
      own += ReshardPrice(graph_, *types[r], computed, read);
    }
    network_.AddEdge(call, kSink, Rounded(own));
  }

  void Connect(const Node& node) {
    if (node.is_output()) {
      for (const Node* value : node.operands()) {
        if (gather_outputs_ && value->type.is_tensor()) network_.AddEdge(Gather(*value), kSink, MaxFlow::kInfinite);
      }
      return;
    }
    const CutCandidate* candidate = candidates_.Of(node);
    if (candidate == nullptr || !candidate->has_rule) return;
    const auto found = call_.find(&node);
    const int call = found == call_.end() ? kSink : found->second;
    for (std::size_t i = 0; i < candidate->mapping.operands.size(); ++i) {
      const OperandFactors& operand = candidate->mapping.operands[i];
      if (!operand.read) continue;
      const Layout& needed = candidate->strategy.operands[i];
      const Layout given = candidates_.WhenCut(*operand.value);
      if (given.is_sharded()) network_.AddEdge(Gather(*operand.value), call, MaxFlow::kInfinite);
      if (call == kSink) continue;
      if (!needed.is_sharded()) {
        if (given.is_sharded()) network_.AddEdge(Gather(*operand.value), kSink, MaxFlow::kInfinite);
        continue;
      }
      network_.AddEdge(call, Slice(*operand.value, needed), MaxFlow::kInfinite);
      if (given.is_sharded() && !(given == needed)) Exchange(*operand.value, given, needed);
    }
    RequireCutOperand(*candidate, call);
  }

  // A sum over a cut factor is recognised by an operand that is cut on it, so that one must be.
  void RequireCutOperand(const CutCandidate& candidate, int call) {
    if (call == kSink || !candidate.cut) return;
    if (candidate.mapping.factors[candidate.cut->factor].kind != FactorKind::kReduction) return;
    const int operand = Number(*candidate.mapping.operands[candidate.primary].value);
    network_.AddEdge(call, operand < 0 ? kSink : operand, MaxFlow::kInfinite);
  }

  // The call that decides about a value; -1: it is whole.
  int Number(const Node& value) const {
    const auto found = call_.find(ProducerOf(value).node);
    return found != call_.end() && candidates_.WhenCut(value).is_sharded() ? found->second : -1;
  }

  int Gather(const Node& value) {
    int& gather = gather_[&value];
    if (gather == 0) {
      gather = network_.AddNode();
      const int call = Number(value);
      const double price = ReshardPrice(graph_, value.type, candidates_.WhenCut(value), Layout::Replicated());
      if (call >= 0) network_.AddEdge(call, gather, Rounded(price));
    }
    return gather;
  }

  int Slice(const Node& value, const Layout& needed) {
    int& slice = slice_[{value.name, needed.ToString()}];
    if (slice == 0) {
      slice = network_.AddNode();
      const int call = Number(value);
      network_.AddEdge(slice, call < 0 ? kSink : call, Rounded(kSlice));
    }
    return slice;
  }

  // A reader that is cut otherwise: paid by the value when it is cut, once per layout.
  void Exchange(const Node& value, const Layout& given, const Layout& needed) {
    if (!exchanged_.insert({value.name, needed.ToString()}).second) return;
    const int call = Number(value);
    if (call >= 0) network_.AddEdge(call, kSink, Rounded(ReshardPrice(graph_, value.type, given, needed)));
  }

  const Graph& graph_;
  const CutCandidates& candidates_;
  const bool gather_outputs_;
  MaxFlow network_;
  std::map<const Node*, int> call_;    // Looked up only.
  std::map<const Node*, int> gather_;  // Looked up only.
  std::map<std::pair<std::string, std::string>, int> slice_;
  std::set<std::pair<std::string, std::string>> exchanged_;
};

}  // namespace

double ReshardPrice(const Graph& graph, const Type& type, const Layout& from, const Layout& to) {
  if (to.is_unset()) return 0;
  const double moved = ReshardBytes(graph, type, from, to) * (type.requires_grad ? 2 : 1);
  if (!from.is_sharded() || !to.is_replicated()) return moved;
  return moved + (type.requires_grad ? kKeptByte * Bytes(graph, type) * Excess(graph) : kGatherUntrained);
}

double WholePrice(const Graph& graph, const Node& node, const CutCandidate& candidate) {
  double price = 0;
  for (const Type* type : TensorsOf(node.type)) {
    price += Bytes(graph, *type) * (candidate.trained ? kKeptByte : kPassingByte);
  }
  // Two operands and a loop that the results lack: a product. Its loops multiplied are its multiply-adds.
  const auto read = std::count_if(candidate.mapping.operands.begin(), candidate.mapping.operands.end(),
                                  [](const OperandFactors& operand) { return operand.read; });
  const bool summed = std::any_of(candidate.mapping.factors.begin(), candidate.mapping.factors.end(),
                                  [](const Factor& factor) { return factor.kind == FactorKind::kReduction; });
  if (read > 1 && (summed || candidate.mapping.repair_to >= 0)) {
    double multiply_adds = 1;
    for (const Factor& factor : candidate.mapping.factors) {
      multiply_adds *= static_cast<double>(factor.size.Evaluate(graph.hints()).value_or(1024));
    }
    price += kMultiplyAdd * multiply_adds * (candidate.trained ? 3 : 1);
  }
  return price * Excess(graph);
}

std::set<const Node*> ChooseCutCalls(const Graph& graph, const CutCandidates& candidates, bool gather_outputs) {
  return CutNetwork(graph, candidates, gather_outputs).Solve();
}

}  // namespace autosp
