#include "seed_dropout.h"

#include <autosp/ir/printer.h>
#include <autosp/ir/sym_builder.h>
#include <autosp/sharding/op_rules.h>

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <set>

namespace autosp {
namespace {

constexpr std::int64_t kSeeds = std::int64_t{1} << 62;
constexpr std::int64_t kWordBits = 32;
constexpr std::int64_t kWord = (std::int64_t{1} << kWordBits) - 1;

constexpr std::int64_t kOdd = 0x1e3779b9;  // Keys of sites start far apart.

// One round of the hash: x ^= x >> shift, x *= multiplier (mod 2^32).
struct HashRound {
  int shift;
  std::int64_t multiplier;
};
constexpr HashRound kFirst{15, 0x2c1b3c6d};
constexpr HashRound kSecond{12, 0x297a2d39};
constexpr int kLastShift = 15;

// A dropout that trains.
struct Site {
  Node* node;
  Node* value;
  double p;
};

class DropoutSeeding {
 public:
  DropoutSeeding(Graph& graph, PassContext& context) : graph_(graph), context_(context), symbols_(graph) {}

  Expected<bool> Run() {
    for (const auto& node : graph_.nodes()) {
      if (node->is_call("aten.dropout") || node->is_call("aten.native_dropout")) Collect(*node);
      if (node->is_call("aten.scaled_dot_product_attention")) RefuseDropout(*node);
    }
    if (!status_.ok()) return status_;
    for (number_ = 0; number_ < std::ssize(sites_); ++number_) AUTOSP_RETURN_IF_ERROR(Rewrite(sites_[number_]));
    graph_.RemoveIf([&](const Node& node) { return taken_apart_.contains(&node); });
    return !sites_.empty();
  }

 private:
  void Collect(Node& node) {
    const OpRule* rule = context_.rules->Find(node.op);
    Node* value = node.args.empty() ? nullptr : node.args[0].node();
    if (rule == nullptr || value == nullptr) return;
    const CallArguments arguments(node, *rule);
    const Argument* train = arguments.Find("train");
    const bool known = train == nullptr || train->get<bool>() != nullptr;
    const double p = arguments.Double("p", -1);  // A probability that is no constant is left to propagation.
    if (known && arguments.Bool("train", true) && p > 0 && p <= 1) sites_.push_back({&node, value, p});
  }

  void RefuseDropout(const Node& node) {
    const OpRule* rule = context_.rules->Find(node.op);
    const double p = rule == nullptr ? 0 : CallArguments(node, *rule).Double("dropout_p", 0);
    if (p == 0) return;
    status_.Add(Diagnostic{
        DiagnosticCode::kRandomOnSharded,
        fmt::format("{} drops out {} of its weights inside its kernel, and {} ranks would not draw what one process "
                    "draws",
                    node.op, p, graph_.axis_size()),
        node.provenance.location,
        Describe(node),
        {},
        "set the attention's dropout to 0 (attention_dropout, attn_pdrop), or use eager attention "
        "(attn_implementation=\"eager\"), whose dropout is an operation of its own"});
  }

  Status Rewrite(const Site& site) {
    at_ = site.node;
    Node* kept = nullptr;
    if (site.p < 1) {
      AUTOSP_ASSIGN_OR_RETURN(kept, Kept(*site.value, site.p));
    }
    if (site.node->op == "aten.dropout") {
      Apply(*site.node, *site.value, kept, site.p);
    } else {
      TakeApart(*site.node, *site.value, kept, site.p);
    }
    context_.remarks.push_back(
        {"seed-dropout", "%" + site.node->name,
         fmt::format("dropout of {} follows from the seed of the step and the position: equal on any number of ranks",
                     site.p),
         site.node->provenance.location});
    return Status::Ok();
  }

  // `node` becomes value * kept / (1 - p).
  void Apply(Node& node, Node& value, Node* kept, double p) {
    Node* visible = kept == nullptr ? &value : Call("kept", "aten.mul.Tensor", {&value, kept}, Like(value, node.type));
    node.op = "aten.mul.Scalar";
    node.args = {visible, kept == nullptr ? 0.0 : 1 / (1 - p)};
    node.attributes.clear();
  }

  // (result, mask): readers of the elements read the two values.
  void TakeApart(Node& node, Node& value, Node* kept, double p) {
    Node* result = Call("value", "aten.mul.Scalar", {&value, 0.0},
                        node.type.elements.empty() ? value.type : node.type.elements[0]);
    at_ = result;
    Apply(*result, value, kept, p);
    if (kept == nullptr) {
      kept = Call("mask", "aten.zeros_like", {&value}, Words(value.type.shape, value.type.device));
      kept->type.dtype = DType::kBool;
      kept->set_attribute("dtype", Argument::Dtype(DType::kBool));
    }
    for (const auto& reader : graph_.nodes()) {
      if (!reader->is_call("builtin.getitem") || reader->args[0].node() != &node) continue;
      const auto* index = reader->args[1].get<std::int64_t>();
      graph_.ReplaceUses(reader.get(), index != nullptr && *index == 1 ? kept : result);
      taken_apart_.insert(reader.get());
    }
    taken_apart_.insert(&node);
  }

  // Where an element is kept: bool, the shape of `value`.
  Expected<Node*> Kept(const Node& value, double p) {
    const std::string& device = value.type.device;
    const std::vector<Dim>& shape = value.type.shape;
    AUTOSP_ASSIGN_OR_RETURN(const Keys keys, SiteKeys(device));
    AUTOSP_ASSIGN_OR_RETURN(Node * row, Row(shape, device));
    AUTOSP_ASSIGN_OR_RETURN(Node * column, Column(shape, device));
    Node* a = row == nullptr ? keys.first : Round(Xor(row, keys.first), kFirst);
    Node* again = Round(Xor(a, keys.second), kSecond);
    Node* b = column == nullptr ? keys.second : Round(Xor(column, keys.second), kFirst);
    Node* element = Round(Round(Xor(a, b), kFirst), kSecond);
    element = Round(Low(Add(element, again)), kFirst);
    const auto threshold = static_cast<std::int64_t>(std::llround(p * static_cast<double>(kWord + 1)));
    Node* kept = Call("mask", "aten.ge.Scalar", {element, threshold}, Words(shape, device));
    kept->type.dtype = DType::kBool;
    return kept;
  }

  // While it lives, new nodes are named after no site.
  class SharedNames {
   public:
    explicit SharedNames(DropoutSeeding& owner) : owner_(owner) { owner_.shared_ = true; }
    ~SharedNames() { owner_.shared_ = false; }
    SharedNames(const SharedNames&) = delete;
    SharedNames& operator=(const SharedNames&) = delete;

   private:
    DropoutSeeding& owner_;
  };

  struct Keys {
    Node *first = nullptr, *second = nullptr;
  };

  // The two keys of this site; those of all sites are made at once, of the step's seed.
  Expected<Keys> SiteKeys(const std::string& device) {
    Keys& all = keys_[device];
    if (all.first == nullptr) {
      const SharedNames shared(*this);
      Node* seed = Call("seed", "autosp_fx.draw_seed", {kSeeds, Argument::List{}}, Words({}, device));
      seed->set_attribute("device", Argument::Constant{"device", device});
      AUTOSP_ASSIGN_OR_RETURN(Node * numbers, Arange(std::ssize(sites_), device));
      Node* apart = Call("sites", "aten.mul.Scalar", {numbers, kOdd}, numbers->type);
      all.first = Mix(Low(Add(apart, Low(seed))));
      all.second = Mix(Xor(all.first, Shifted(seed, kWordBits)));
    }
    const auto of_site = [&](Node* keys) {
      return Call("key", "aten.select.int", {keys, 0, number_}, Words({}, device));
    };
    Node* first = of_site(all.first);
    return Keys{first, of_site(all.second)};
  }

  // The hash of each row's number, null when there is one row. [2, s0, 64]: of arange(2) * s0 + arange(s0), as
  // [2, s0, 1].
  Expected<Node*> Row(const std::vector<Dim>& shape, const std::string& device) {
    std::string key = device;
    for (std::size_t dim = 0; dim + 1 < shape.size(); ++dim) key += " " + shape[dim].ToString();
    if (const auto known = rows_.find(key); known != rows_.end()) return known->second;
    const SharedNames shared(*this);
    Node* number = nullptr;
    for (std::size_t dim = 0; dim + 1 < shape.size(); ++dim) {
      const Dim& size = shape[dim];
      if (size.is_one()) continue;
      if (number != nullptr) {
        AUTOSP_ASSIGN_OR_RETURN(const Argument count, symbols_.Materialize(size));
        number = Call("rows", "aten.mul.Scalar", {number, count}, number->type);
      }
      AUTOSP_ASSIGN_OR_RETURN(Node * index, Arange(size, device));
      Argument::List column{-1};
      std::vector<Dim> places{size};
      column.resize(shape.size() - dim, 1);
      places.resize(shape.size() - dim, 1);
      index = Call("index", "aten.reshape", {index, column}, Words(places, device));
      number = number == nullptr ? index : Add(number, index);
    }
    Node* hash = number == nullptr ? nullptr : Mix(Low(number));
    if (number != nullptr && !FitsWord(shape)) hash = Mix(Xor(hash, Shifted(number, kWordBits)));
    rows_[key] = hash;
    return hash;
  }

  // The hash of each last index; null when there is one.
  Expected<Node*> Column(const std::vector<Dim>& shape, const std::string& device) {
    if (shape.empty() || shape.back().is_one()) return nullptr;
    Node*& hash = columns_[device + " " + shape.back().ToString()];
    if (hash == nullptr) {
      const SharedNames shared(*this);
      AUTOSP_ASSIGN_OR_RETURN(Node * index, Arange(shape.back(), device));
      hash = Mix(index);
    }
    return hash;
  }

  Expected<Node*> Arange(const Dim& size, const std::string& device) {
    Node*& range = ranges_[device + " " + size.ToString()];
    if (range == nullptr) {
      AUTOSP_ASSIGN_OR_RETURN(const Argument end, symbols_.Materialize(size));
      range = Call("range", "aten.arange", {end}, Words({size}, device));
      range->set_attribute("device", Argument::Constant{"device", device});
    }
    return range;
  }

  // Whether the rows of a value of this shape are known to be fewer than 2^32.
  static bool FitsWord(const std::vector<Dim>& shape) {
    double rows = 1;
    for (std::size_t dim = 0; dim + 1 < shape.size(); ++dim) {
      rows *= static_cast<double>(shape[dim].constant().value_or(kWord));
    }
    return rows < static_cast<double>(kWord);
  }

  Node* Mix(Node* x) {
    x = Round(Round(x, kFirst), kSecond);
    return Xor(x, Shifted(x, kLastShift));
  }
  Node* Round(Node* x, const HashRound& round) {
    Node* mixed = Xor(x, Shifted(x, round.shift));
    return Low(Call("times", "aten.mul.Scalar", {mixed, round.multiplier}, x->type));
  }
  Node* Shifted(Node* x, std::int64_t bits) {
    return Call("shift", "aten.bitwise_right_shift.Tensor_Scalar", {x, bits}, x->type);
  }
  Node* Low(Node* x) { return Call("low", "aten.bitwise_and.Scalar", {x, kWord}, x->type); }
  Node* Xor(Node* x, Node* y) { return Call("xor", "aten.bitwise_xor.Tensor", {x, y}, Broadcast(*x, *y)); }
  Node* Add(Node* x, Node* y) { return Call("add", "aten.add.Tensor", {x, y}, Broadcast(*x, *y)); }

  // Two operands of this pass differ in sizes of 1 and in rank only.
  static Type Broadcast(const Node& x, const Node& y) {
    Type type = x.type.rank() >= y.type.rank() ? x.type : y.type;
    const Type& other = x.type.rank() >= y.type.rank() ? y.type : x.type;
    for (int i = 1; i <= other.rank(); ++i) {
      Dim& size = type.shape[type.rank() - i];
      if (size.is_one()) size = other.shape[other.rank() - i];
    }
    return type;
  }

  static Type Words(std::vector<Dim> shape, const std::string& device) {
    Type type = Type::Tensor(DType::kI64, std::move(shape));
    type.device = device;
    return type;
  }
  static Type Like(const Node& value, const Type& result) {
    Type type = value.type;
    type.requires_grad = result.requires_grad;
    return type;
  }

  Node* Call(const char* what, const char* op, std::vector<Argument> args, Type type) {
    const std::string prefix = shared_ ? "dropout" : at_->name;
    Node* node = graph_.InsertBefore(at_, prefix + "_" + what, op, std::move(args), std::move(type));
    node->provenance = at_->provenance;
    return node;
  }

  Graph& graph_;
  PassContext& context_;
  SymBuilder symbols_;
  std::vector<Site> sites_;
  std::int64_t number_ = 0;                               // Of the site at work.
  bool shared_ = false;                                   // What is made now belongs to no site.
  Node* at_ = nullptr;                                    // New nodes go before it.
  std::map<std::string, Keys> keys_;                      // By device.
  std::map<std::string, Node*> rows_, columns_, ranges_;  // By device and sizes.
  std::set<const Node*> taken_apart_;                     // Looked up only.
  Status status_;
};

class SeedDropoutPass : public Pass {
 public:
  const char* name() const override { return "seed-dropout"; }
  Form form_in() const override { return Form::kNormalized; }
  Form form_out() const override { return Form::kNormalized; }
  const char* summary() const override {
    return "dropout becomes a function of one seed per step and of each element's position";
  }
  Expected<bool> Run(Graph& graph, PassContext& context) const override {
    if (graph.axis_size() == 1) return false;
    return DropoutSeeding(graph, context).Run();
  }
};

}  // namespace

std::unique_ptr<Pass> MakeSeedDropoutPass() { return std::make_unique<SeedDropoutPass>(); }

}  // namespace autosp
