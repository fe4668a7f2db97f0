#include "random_graph.h"

#include <bit>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace autosp::test {
namespace {

std::string RandomText(Random& random) {
  static const char* const kTexts[] = {
      "model.py",      "layers.0.attn", "",         "a \"quoted\" word", "tab\there", "new\nline", "back\\slash",
      "// no comment", "caf\xc3\xa9",   "\x01\x7f", "%x = y(",           "sum"};
  return kTexts[random.Below(std::size(kTexts))];
}

std::int64_t RandomInt(Random& random) {
  constexpr std::int64_t kInts[] = {0,  1,       -1,           2,
                                    64, 1 << 20, -(1LL << 40), std::numeric_limits<std::int64_t>::min(),
                                    3,  7,       4096,         std::numeric_limits<std::int64_t>::max()};
  return kInts[random.Below(std::size(kInts))];
}

class Generator {
 public:
  explicit Generator(std::uint64_t seed) : random_(seed), graph_(random_.OneIn(8) ? "odd name" : "main") {}

  Graph Make() {
    graph_.set_form(static_cast<Form>(random_.Below(8)));
    if (!random_.OneIn(4)) graph_.mesh() = {{"dp", 2}, {"sp", 1 + random_.Below(8)}};
    if (random_.OneIn(2)) graph_.hints() = {{"s0", 128}, {"s 1", RandomInt(random_)}};
    if (random_.OneIn(2)) graph_.divisible() = {{Dim::Symbol("s0"), 4}, {RandomDim(random_), 1 + random_.Below(9)}};
    const std::int64_t inputs = random_.Below(6), calls = random_.Below(12);
    for (std::int64_t i = 0; i < inputs; ++i) {
      Node* input = graph_.AddInput(RandomName(), RandomType(1));
      if (random_.OneIn(3)) input->seq_dim = random_.Below(3);
      AddMarks(input);
    }
    for (std::int64_t i = 0; i < calls; ++i) AddCall();
    std::vector<Argument> results;
    for (std::int64_t i = random_.Below(4); i > 0; --i) results.push_back(RandomArgument(1));
    graph_.SetOutput(std::move(results));
    return std::move(graph_);
  }

 private:
  std::string RandomName() {
    static const char* const kNames[] = {"x", "add_1", "l_self_.weight", "0", "view.2", "return", "f32", "x"};
    return kNames[random_.Below(std::size(kNames))];
  }

  bool has_layouts() const { return graph_.form() == Form::kSharded || graph_.form() == Form::kResharded; }

  void AddLayout(Type* type) {
    if (!has_layouts()) return;
    type->layout = Layout::Replicated();
    if (random_.OneIn(4)) type->layout = Layout::Partial(static_cast<ReduceOp>(random_.Below(3)));
    if (type->rank() == 0 || random_.OneIn(2)) return;
    const auto dim = static_cast<std::size_t>(random_.Below(type->rank()));
    if (random_.OneIn(2)) {
      type->layout = Layout::Sharded(static_cast<int>(dim), type->shape[dim]);
    } else {
      const Dim major = Size(), length = Size(), minor = Size();
      type->layout = Layout::Sharded(static_cast<int>(dim), length, major, minor);
      type->shape[dim] = major * length * minor;
    }
  }

  Dim Size() {
    const Dim dim = RandomDim(random_);
    return dim.constant().value_or(0) < 0 ? Dim(3) : dim;
  }

  Type RandomType(int depth) {
    const auto kind = static_cast<Type::Kind>(random_.Below(10));
    if (kind == Type::Kind::kTuple && depth > 0) {
      std::vector<Type> elements;
      for (std::int64_t i = 1 + random_.Below(3); i > 0; --i) elements.push_back(RandomType(depth - 1));
      return Type::Tuple(std::move(elements));
    }
    if (kind == Type::Kind::kInt) return Type::Int(RandomDim(random_));
    if (kind > Type::Kind::kTensor && kind <= Type::Kind::kOther && kind != Type::Kind::kTuple) return Type::Of(kind);
    Type type = Type::Tensor(static_cast<DType>(random_.Below(14)), {}, random_.OneIn(3));
    for (std::int64_t i = random_.Below(5); i > 0; --i) type.shape.push_back(Size());
    if (random_.OneIn(5)) type.device = random_.OneIn(3) ? "odd device" : "cuda:0";
    AddLayout(&type);
    return type;
  }

  double RandomDouble() {
    constexpr double kDoubles[] = {0.0, -0.0, 1.0, -2.5, 1e22, 1e-300, 0.1, std::numeric_limits<double>::infinity()};
    return random_.OneIn(2) ? kDoubles[random_.Below(std::size(kDoubles))] : std::bit_cast<double>(random_.Bits());
  }

  Argument RandomArgument(int depth) {
    switch (random_.Below(depth > 0 ? 12 : 9)) {
      case 0:
        return Argument();
      case 1:
        return random_.OneIn(2);
      case 2:
        return RandomInt(random_);
      case 3:
        return RandomDouble();
      case 4:
        return RandomText(random_);
      case 5: {
        static const Argument::Constant kConstants[] = {{"dtype", "f32"}, {"device", "cuda:1"}, {"group", "sp"},
                                                        {"opaque", "4"},  {"ellipsis", ""},     {"device", "cpu"},
                                                        {"graph", "a b"}, {"layout", "strided"}};
        return kConstants[random_.Below(std::size(kConstants))];
      }
      case 9:
      case 10: {
        Argument::List items;
        for (std::int64_t i = random_.Below(4); i > 0; --i) items.push_back(RandomArgument(depth - 1));
        return items;
      }
      case 11: {
        auto slice = std::make_shared<Argument::Slice>();
        slice->start = RandomArgument(depth - 1);
        slice->stop = RandomArgument(depth - 1);
        return slice;
      }
      default:
        if (graph_.size() == 0) return Argument();
        return graph_.nodes()[static_cast<std::size_t>(random_.Below(static_cast<std::int64_t>(graph_.size())))].get();
    }
  }

  void AddCall() {
    static const char* const kOps[] = {
        "aten.add.Tensor", "aten.linear", "sym.mul",        "builtin.getitem",
        "my op(1)",        "caf\xc3\xa9", "ns::op",         "_c10d_functional.wait_tensor",
        "aten.relu",       "autosp.x",    "autosp.reshard", "none"};
    std::int64_t count = 9;
    if (graph_.form() == Form::kSharded || graph_.form() == Form::kPartitioned) count = 10;
    if (graph_.form() == Form::kResharded) count = 12;
    std::vector<Argument> args;
    for (std::int64_t i = random_.Below(4); i > 0; --i) args.push_back(RandomArgument(2));
    const std::string op = kOps[random_.Below(count)];
    // Drawn before the call: the order in which arguments of a call are evaluated is the compiler's choice.
    std::string name = RandomName();
    Type type = RandomType(2);
    std::vector<std::pair<std::string, Argument>> attributes;
    static const char* const kKeys[] = {"is_causal", "scale", "odd key", "dtype"};
    for (const char* key : kKeys) {
      if (random_.OneIn(6)) attributes.emplace_back(key, RandomArgument(2));
    }
    Node* node = graph_.AddCall(std::move(name), op, std::move(args), std::move(type));
    node->attributes = std::move(attributes);
    if (graph_.form() == Form::kPlanned) node->recompute = random_.OneIn(2);
    if (graph_.form() >= Form::kJoint) {
      node->choice = static_cast<Node::Choice>(random_.Below(4));
      node->written = random_.OneIn(4);
    }
    AddMarks(node);
  }

  void AddMarks(Node* node) {
    if (random_.OneIn(3)) node->provenance.location = {RandomText(random_), static_cast<int>(random_.Below(99)), ""};
    if (random_.OneIn(5)) node->provenance.location.function = RandomText(random_);
    if (random_.OneIn(4)) node->provenance.module_path = RandomText(random_);
    if (random_.OneIn(6)) node->provenance.fx_name = RandomText(random_);
  }

  Random random_;
  Graph graph_;
};

}  // namespace

Dim RandomDim(Random& random, int depth) {
  const auto symbol = [&] { return Dim::Symbol("s" + std::to_string(random.Below(4))); };
  switch (random.Below(depth > 0 ? 9 : 4)) {
    case 0:
      return random.Below(20);
    case 1:
      return random.OneIn(30) ? RandomInt(random) : 1 + random.Below(4);
    case 2:
    case 3:
      return symbol();
    case 4:
    case 5: {
      const Dim a = RandomDim(random, depth - 1), b = RandomDim(random, depth - 1);
      return a * b;
    }
    case 6: {
      const Dim a = RandomDim(random, depth - 1), b = RandomDim(random, depth - 1);
      return random.OneIn(3) ? a - b : a + b;
    }
    default: {
      const auto call = static_cast<Dim::Call>(random.Below(7));
      const Dim a = RandomDim(random, depth - 1), b = RandomDim(random, depth - 1);
      return Dim::MakeCall(call, a, b);
    }
  }
}

Graph RandomGraph(std::uint64_t seed) { return Generator(seed).Make(); }

}  // namespace autosp::test
