#include "lower_collectives.h"

#include <autosp/ir/printer.h>
#include <autosp/ir/sym_builder.h>
#include <autosp/sharding/halo_lowering.h>

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

namespace autosp {
namespace {

// A dim seen as (major, length, minor), as the attributes of a collective give it.
struct CutDim {
  int dim = 0;
  Dim major = 1, length = 0, minor = 1;
  Dim block = 0;
  bool padded = false;
};

constexpr std::string_view kAbstract = "autosp.";

// Every autosp.X becomes the op autosp_rt.X, which takes the same arguments.
bool CallRuntimeOps(Graph& graph) {
  bool changed = false;
  for (const auto& node : graph.nodes()) {
    if (!node->is_call() || !node->op.starts_with(kAbstract)) continue;
    node->op = "autosp_rt." + node->op.substr(kAbstract.size());
    changed = true;
  }
  return changed;
}

// What told that this number is drawn on each rank, and reduced after, has done its work.
void DrawSeeds(Graph& graph) {
  for (const auto& node : graph.nodes()) {
    if (node->is_call("autosp_fx.draw_seed")) node->op = "aten.randint";
  }
}

bool AllOnCpu(const Graph& graph) {
  return std::all_of(graph.nodes().begin(), graph.nodes().end(), [](const auto& node) {
    return !node->is_call() || !node->op.starts_with(kAbstract) || node->type.device == "cpu";
  });
}

class CollectiveLowering {
 public:
  explicit CollectiveLowering(Graph& graph) : graph_(graph), symbols_(graph), ranks_(graph.axis_size()) {}

  Expected<bool> Run() {
    std::vector<Node*> calls;
    for (const auto& node : graph_.nodes()) {
      if (node->is_call() && node->op.starts_with(kAbstract)) calls.push_back(node.get());
    }
    for (const auto& node : graph_.nodes()) {
      const bool front = node->is_input() || (node->is_call() && node->type.kind == Type::Kind::kInt);
      if (!front && anchor_ == nullptr) anchor_ = node.get();
    }
    const std::map<const Node*, std::vector<Node*>> packs = PacksByLast(calls);
    std::set<const Node*> packed;  // Looked up only.
    for (const auto& [last, members] : packs) packed.insert(members.begin(), members.end());
    for (Node* node : calls) {
      at_ = node;
      failure_ = Status::Ok();
      if (const auto pack = packs.find(node); pack != packs.end()) {
        const std::vector<Node*> lowered = PackedAllToAll(pack->second);
        AUTOSP_RETURN_IF_ERROR(failure_);
        for (std::size_t i = 0; i < lowered.size(); ++i) Replace(*pack->second[i], lowered[i]);
      } else if (!packed.contains(node)) {
        Node* lowered = Lower(*node);
        AUTOSP_RETURN_IF_ERROR(failure_);
        Replace(*node, lowered);
      }
    }
    graph_.RemoveIf([](const Node& node) { return node.is_call() && node.op.starts_with(kAbstract); });
    const std::map<const Node*, std::vector<Node*>> users = graph_.Users();
    graph_.RemoveIf([&](const Node& node) {
      return node.is_call("aten.reshape") && made_.contains(&node) && users.at(&node).empty();
    });
    return !calls.empty();
  }

 private:
  using Shape = std::vector<Dim>;

  void Replace(const Node& node, Node* lowered) {
    lowered->type.requires_grad = node.type.requires_grad;
    graph_.ReplaceUses(const_cast<Node*>(&node), lowered);
  }

  // The exchanges whose first reader is one node (query, key and value of attention) and that can be one, by the last
  // of them: there all of their operands are known, and nobody has read any of them.
  std::map<const Node*, std::vector<Node*>> PacksByLast(const std::vector<Node*>& calls) {
    const std::map<const Node*, std::vector<Node*>> users = graph_.Users();
    std::map<const Node*, std::vector<Node*>> by_reader;  // Looked up only.
    std::map<const Node*, std::vector<Node*>> packs;      // Looked up only, but for the set of all members.
    for (Node* call : calls) {
      if (call->op != "autosp.all_to_all" || users.at(call).empty()) continue;
      std::vector<Node*>& members = by_reader[users.at(call).front()];
      const Node* last = members.empty() ? nullptr : members.back();
      if (!CanJoin(last == nullptr ? *call : *last, *call)) continue;
      members.push_back(call);
      if (last == nullptr) continue;
      packs.erase(last);
      packs[call] = members;
    }
    return packs;
  }

  // Whether what two exchanges send differs in the length of the new cut dim at most.
  bool CanJoin(const Node& first, const Node& other) {
    const CutDim to = CutOf(first, "to_");
    const CutDim to_other = CutOf(other, "to_");
    const Type& type = first.args[0].node()->type;
    const Type& type_other = other.args[0].node()->type;
    if (type.dtype != type_other.dtype || type.device != type_other.device || to.padded || to_other.padded ||
        At(to) != At(to_other)) {
      return false;
    }
    Shape shape = Seen(type.shape, to, {ranks_, to.block});
    Shape shape_other = Seen(type_other.shape, to_other, {ranks_, to_other.block});
    if (shape.size() != shape_other.size()) return false;
    shape_other[At(to) + 1] = shape[At(to) + 1];
    return shape == shape_other;
  }

  Node* Lower(const Node& node) {
    Node* operand = node.args[0].node();
    if (node.op == "autosp.all_reduce") {
      return Wait(Call("_c10d_functional.all_reduce", {operand, *node.attribute("reduce"), Argument::Group("sp")},
                       operand->type));
    }
    const CutDim cut = CutOf(node, "");
    if (node.op == "autosp.shard_slice") return ShardSlice(operand, cut);
    if (node.op == "autosp.all_gather") return AllGather(operand, cut);
    if (node.op == "autosp.reduce_scatter") return ReduceScatter(operand, cut, *node.attribute("reduce"));
    if (node.op == "autosp.mask_padding") return MaskPadding(operand, cut, *node.attribute("value"));
    if (node.op == "autosp.all_to_all") return AllToAll(operand, cut, CutOf(node, "to_"));
    failure_ = Diagnostic{DiagnosticCode::kInvalidGraph,
                          node.op + " cannot be lowered",
                          node.provenance.location,
                          Describe(node),
                          {},
                          ""};
    return operand;
  }

  CutDim CutOf(const Node& node, const std::string& prefix) {
    const auto dim_of = [&](const char* part) {
      const Argument* argument = node.attribute(prefix + part);
      if (argument != nullptr && argument->node() != nullptr) return argument->node()->type.number;
      const auto* value = argument == nullptr ? nullptr : argument->get<std::int64_t>();
      return value == nullptr ? Dim(0) : Dim(*value);
    };
    CutDim cut;
    cut.dim = static_cast<int>(dim_of("dim").constant().value_or(0));
    cut.major = dim_of("major");
    cut.length = dim_of("length");
    cut.minor = dim_of("minor");
    cut.padded = !graph_.IsDivisible(cut.length, ranks_);
    cut.block = cut.padded ? CeilDiv(cut.length, ranks_) : FloorDiv(cut.length, ranks_);
    return cut;
  }

  // `shape` with its dim `dim` replaced by `parts`.
  static Shape Replace(const Shape& shape, int dim, const Shape& parts) {
    Shape result(shape.begin(), shape.begin() + dim);
    result.insert(result.end(), parts.begin(), parts.end());
    result.insert(result.end(), shape.begin() + dim + 1, shape.end());
    return result;
  }

  // `shape` with the cut dim seen as (major, lengths.., minor); a major or minor of 1 gets no dim of its own, which
  // keeps the rank of what the compiler sees low.
  static Shape Seen(const Shape& shape, const CutDim& cut, const Shape& lengths) {
    Shape parts;
    if (!cut.major.is_one()) parts.push_back(cut.major);
    parts.insert(parts.end(), lengths.begin(), lengths.end());
    if (!cut.minor.is_one()) parts.push_back(cut.minor);
    return Replace(shape, cut.dim, parts);
  }

  // Where Seen() puts the first of `lengths`.
  static int At(const CutDim& cut) { return cut.dim + (cut.major.is_one() ? 0 : 1); }

  Node* Call(std::string op, std::vector<Argument> args, Type type) {
    const std::size_t start = op.find('.') + 1;
    const std::string name = at_->name + "_" + op.substr(start, op.find('.', start) - start);
    Node* node = graph_.InsertBefore(at_, name, std::move(op), std::move(args), std::move(type));
    node->provenance = at_->provenance;
    made_.insert(node);
    return node;
  }

  Node* Wait(Node* work) { return Call("_c10d_functional.wait_tensor", {work}, work->type); }

  static Type Shaped(const Node* like, Shape shape) {
    Type type = like->type;
    type.shape = std::move(shape);
    return type;
  }

  Argument Size(const Dim& dim) {
    Expected<Argument> size = symbols_.Materialize(dim);
    if (!size.ok()) {
      failure_ = size.status();
      return Argument(0);
    }
    return *size;
  }

  Node* Reshape(Node* value, const Shape& shape) {
    // A reshape of a reshape is one; the other goes if nobody else reads it.
    if (value->is_call("aten.reshape") && made_.contains(value)) value = value->args[0].node();
    if (value->type.shape == shape) return value;
    Argument::List sizes;
    for (const Dim& dim : shape) sizes.push_back(Size(dim));
    return Call("aten.reshape", {value, std::move(sizes)}, Shaped(value, shape));
  }

  // Moves dim `from` to position `to`: a view where only dims of size 1 are passed.
  Node* Move(Node* value, int from, int to) {
    Argument::List order;
    Shape shape = value->type.shape;
    const bool forward = from < to;
    const bool in_order =
        std::all_of(shape.begin() + (forward ? from + 1 : to), shape.begin() + (forward ? to + 1 : from),
                    [](const Dim& dim) { return dim.is_one(); });
    std::vector<std::int64_t> dims(shape.size());
    for (std::size_t i = 0; i < dims.size(); ++i) dims[i] = static_cast<std::int64_t>(i);
    dims.erase(dims.begin() + from);
    dims.insert(dims.begin() + to, from);
    for (std::size_t i = 0; i < dims.size(); ++i) {
      order.emplace_back(dims[i]);
      shape[i] = value->type.shape[dims[i]];
    }
    if (in_order) return Reshape(value, shape);
    return Call("aten.permute", {value, std::move(order)}, Shaped(value, shape));
  }

  // As collectives need it.
  Node* Dense(Node* value) { return Call("aten.contiguous", {value}, value->type); }

  Node* IndexSelect(Node* value, int dim, Node* index) {
    Shape shape = value->type.shape;
    shape[dim] = index->type.shape[0];
    return Call("aten.index_select", {value, dim, index}, Shaped(value, shape));
  }

  Type IndexType(const Shape& shape, const std::string& device) const {
    Type type = Type::Tensor(DType::kI64, shape);
    type.device = device;
    return type;
  }

  // Values that many collectives share are built once, at the front of the graph, where gradients are recorded.
  template <typename F>
  Node* Shared(const std::string& key, const F& build) {
    Node*& node = shared_[key];
    if (node == nullptr) {
      Node* position = std::exchange(at_, anchor_);
      node = build();
      at_ = position;
    }
    return node;
  }

  Node* Coordinate(const std::string& device) {
    return Shared("rank " + device, [&] {
      return Call("autosp_fx.mesh_coordinate", {Argument::Group("sp"), Argument::Constant{"device", device}},
                  IndexType({}, device));
    });
  }

  Node* Arange(const Dim& size, const std::string& device) {
    return Shared("arange " + size.ToString() + " " + device, [&] {
      Node* range = Call("aten.arange", {Size(size)}, IndexType({size}, device));
      range->set_attribute("device", Argument::Constant{"device", device});
      return range;
    });
  }

  // Global positions of this rank's block: rank*L + arange(L).
  Node* Positions(const CutDim& cut, const std::string& device) {
    Node* rank = Coordinate(device);
    Node* range = Arange(cut.block, device);
    return Shared("positions " + cut.length.ToString() + " " + device, [&] {
      Node* start = Call("aten.mul.Scalar", {rank, Size(cut.block)}, IndexType({}, device));
      return Call("aten.add.Tensor", {range, start}, range->type);
    });
  }

  Node* ClampedPositions(Node* positions, const CutDim& cut, const std::string& key) {
    return Shared("clamped " + key + cut.length.ToString() + " " + positions->type.device, [&] {
      return Call("aten.clamp_max", {positions, Size(cut.length - 1)}, positions->type);
    });
  }

  Node* ShardSlice(Node* value, const CutDim& cut) {
    const std::string& device = value->type.device;
    const Shape whole = value->type.shape;
    const Shape local = Replace(whole, cut.dim, {cut.major * cut.block * cut.minor});
    if (!cut.padded) {
      Node* rows = Reshape(value, Seen(whole, cut, {ranks_, cut.block}));
      Node* rank = Coordinate(device);
      Node* index = Shared("row " + device, [&] {
        return Call("aten.reshape", {rank, Argument::List{1}}, IndexType({1}, device));
      });
      return Reshape(IndexSelect(rows, At(cut), index), local);
    }
    Node* index = ClampedPositions(Positions(cut, device), cut, "");
    return Reshape(IndexSelect(Reshape(value, Seen(whole, cut, {cut.length})), At(cut), index), local);
  }

  // (P, local shape) -> whole: P goes before the block, a padded tail is dropped.
  Node* BlocksToWhole(Node* stacked, const Shape& local, const CutDim& cut) {
    Shape parts = Seen(local, cut, {cut.block});
    parts.insert(parts.begin(), ranks_);
    Node* value = Move(Reshape(stacked, parts), 0, At(cut));
    if (cut.padded) {
      value = Reshape(value, Seen(local, cut, {cut.block * ranks_}));
      value = IndexSelect(value, At(cut), Arange(cut.length, value->type.device));
    }
    return Reshape(value, Replace(local, cut.dim, {cut.major * cut.length * cut.minor}));
  }

  // whole -> (P, .., block, ..), not dense. A padded tail repeats the last element.
  Node* BlocksInFront(Node* value, const CutDim& cut) {
    const Shape whole = value->type.shape;
    if (cut.padded) {
      Node* index = ClampedPositions(Arange(cut.block * ranks_, value->type.device), cut, "all ");
      value = IndexSelect(Reshape(value, Seen(whole, cut, {cut.length})), At(cut), index);
    }
    return Move(Reshape(value, Seen(whole, cut, {ranks_, cut.block})), At(cut), 0);
  }

  // The shape of each of P blocks.
  static Shape BlockShape(const Shape& whole, const CutDim& cut) {
    return Replace(whole, cut.dim, {cut.major * cut.block * cut.minor});
  }

  Shape Stacked(Shape local) const {
    local.insert(local.begin(), ranks_);
    return local;
  }

  // whole -> (P, local shape), dense.
  Node* WholeToBlocks(Node* value, const CutDim& cut) {
    const Shape stacked = Stacked(BlockShape(value->type.shape, cut));
    return Reshape(Dense(BlocksInFront(value, cut)), stacked);
  }

  Node* AllGather(Node* value, const CutDim& cut) {
    const Shape local = value->type.shape;
    Shape stacked = local;
    stacked[0] = stacked[0] * ranks_;
    Node* work = Call("_c10d_functional.all_gather_into_tensor", {Dense(value), ranks_, Argument::Group("sp")},
                      Shaped(value, stacked));
    return BlocksToWhole(Wait(work), local, cut);
  }

  Node* ReduceScatter(Node* value, const CutDim& cut, const Argument& reduce) {
    Node* blocks = WholeToBlocks(value, cut);
    Shape local(blocks->type.shape.begin() + 1, blocks->type.shape.end());
    Shape scattered = blocks->type.shape;
    scattered[0] = 1;
    Node* work = Call("_c10d_functional.reduce_scatter_tensor", {blocks, reduce, ranks_, Argument::Group("sp")},
                      Shaped(value, scattered));
    return Reshape(Wait(work), local);
  }

  Node* AllToAll(Node* value, const CutDim& from, const CutDim& to) {
    const Shape local = BlockShape(value->type.shape, to);
    return BlocksToWhole(Exchange(WholeToBlocks(value, to)), local, from);
  }

  Node* Exchange(Node* blocks) {
    const Argument::List ones(static_cast<std::size_t>(ranks_), Argument(1));
    return Wait(Call("_c10d_functional.all_to_all_single", {blocks, ones, ones, Argument::Group("sp")}, blocks->type));
  }

  // One exchange for several values: joined on the block of the dim that is cut next, taken apart after it.
  std::vector<Node*> PackedAllToAll(const std::vector<Node*>& nodes) {
    const int joined = At(CutOf(*nodes.front(), "to_")) + 1;
    Argument::List parts, sizes;
    Dim length = 0;
    std::vector<Type> types;
    for (const Node* node : nodes) {
      Node* blocks = BlocksInFront(node->args[0].node(), CutOf(*node, "to_"));
      length = length + blocks->type.shape[joined];
      sizes.push_back(Size(blocks->type.shape[joined]));
      types.push_back(blocks->type);
      parts.emplace_back(blocks);
    }
    Shape shape = types.front().shape;
    shape[joined] = length;
    Type packed = types.front();
    packed.shape = shape;
    packed.requires_grad = std::any_of(types.begin(), types.end(), [](const Type& type) { return type.requires_grad; });
    for (Type& type : types) type.requires_grad = packed.requires_grad;
    // cat keeps a channels-last layout that all parts have.
    Node* all = Dense(Call("aten.cat", {std::move(parts), joined}, packed));
    Node* split =
        Call("aten.split_with_sizes", {Exchange(all), std::move(sizes), joined}, Type::Tuple(std::move(types)));
    std::vector<Node*> results;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      const Shape local = BlockShape(nodes[i]->args[0].node()->type.shape, CutOf(*nodes[i], "to_"));
      Node* part = Call("builtin.getitem", {split, static_cast<std::int64_t>(i)}, split->type.elements[i]);
      results.push_back(BlocksToWhole(Reshape(part, Stacked(local)), local, CutOf(*nodes[i], "")));
    }
    return results;
  }

  Node* MaskPadding(Node* value, const CutDim& cut, const Argument& fill) {
    if (!cut.padded) return value;
    const std::string& device = value->type.device;
    Node* positions = Positions(cut, device);
    Node* valid = Shared("valid " + cut.length.ToString() + " " + device, [&] {
      Type type = positions->type;
      type.dtype = DType::kBool;
      return Call("aten.lt.Scalar", {positions, Size(cut.length)}, type);
    });
    const Shape local = value->type.shape;
    const Shape parts = Seen(local, cut, {cut.block});
    Shape broadcast(parts.size() - At(cut), Dim(1));
    broadcast[0] = cut.block;
    Node* shown = Reshape(valid, broadcast);
    Node* masked = Call("aten.where.ScalarOther", {shown, Reshape(value, parts), fill}, Shaped(value, parts));
    return Reshape(masked, local);
  }

  Graph& graph_;
  SymBuilder symbols_;
  std::int64_t ranks_;
  Node* at_ = nullptr;      // New nodes go before it.
  Node* anchor_ = nullptr;  // Shared nodes go before it: the first node that is neither an input nor a size.
  Status failure_;
  std::map<std::string, Node*> shared_;
  std::set<const Node*> made_;  // Looked up only.
};

class LowerCollectivesPass : public Pass {
 public:
  const char* name() const override { return "lower-collectives"; }
  Form form_in() const override { return Form::kPartitioned; }
  Form form_out() const override { return Form::kLowered; }
  const char* summary() const override { return "collectives become ATen views and functional collectives"; }
  Expected<bool> Run(Graph& graph, PassContext& context) const override {
    DrawSeeds(graph);
    AUTOSP_RETURN_IF_ERROR(LowerHalos(graph));
    const std::string& wanted = context.options.collectives;
    if (wanted == "fused" || (wanted == "auto" && AllOnCpu(graph))) {
      CallRuntimeOps(graph);
    } else {
      AUTOSP_RETURN_IF_ERROR([&]() -> Status {
        Expected<bool> done = CollectiveLowering(graph).Run();
        return done.ok() ? Status::Ok() : done.status();
      }());
    }
    graph.set_form(Form::kLowered);
    return true;
  }
};

}  // namespace

std::unique_ptr<Pass> MakeLowerCollectivesPass() { return std::make_unique<LowerCollectivesPass>(); }

}  // namespace autosp
