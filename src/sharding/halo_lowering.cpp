#include <autosp/ir/sym_builder.h>
#include <autosp/sharding/halo_lowering.h>

#include <map>
#include <string>
#include <utility>

namespace autosp {
namespace {

constexpr const char* kConvolution = "autosp_fx.halo_conv1d";
constexpr const char* kShift = "autosp_fx.shift";

enum class Side : std::uint8_t { kLeft, kRight };

class HaloLowering {
 public:
  explicit HaloLowering(Graph& graph) : graph_(graph), symbols_(graph), ranks_(graph.axis_size()) {}

  Status Run() {
    std::vector<Node*> calls;
    for (const auto& node : graph_.nodes()) {
      if (node->is_call(kConvolution) || node->is_call(kShift)) calls.push_back(node.get());
    }
    for (Node* node : calls) {
      at_ = node;
      node->op == kShift ? LowerShift(*node) : LowerConvolution(*node);
      AUTOSP_RETURN_IF_ERROR(std::exchange(failure_, Status::Ok()));
    }
    return Status::Ok();
  }

 private:
  static std::int64_t Int(const Node& node, std::size_t position) {
    const auto* value = node.args[position].get<std::int64_t>();
    return value == nullptr ? 0 : *value;
  }

  // (input, dim, amount, length, cut)
  void LowerShift(Node& node) {
    Node* input = node.args[0].node();
    const int dim = static_cast<int>(Int(node, 1));
    const std::int64_t amount = Int(node, 2);
    if (!*node.args[4].get<bool>()) {
      Become(node, "aten.constant_pad_nd", {input, Around(*input, dim, amount, -amount), 0});
      return;
    }
    const Dim block = input->type.shape[static_cast<std::size_t>(dim)];
    Node* extended =
        Extended(input, dim, node.args[3], std::max<std::int64_t>(amount, 0), std::max<std::int64_t>(-amount, 0));
    // The last `block` elements of (x, halo), the first ones of (halo, x).
    const std::int64_t start = amount < 0 ? -amount : 0;
    OnBlock(node, "aten.slice.Tensor", {extended, dim, start, Size(block + Dim(start))}, dim, node.args[3]);
  }

  // (input, weight, bias, left, right, dilation, groups, length, cut)
  void LowerConvolution(Node& node) {
    Node* input = node.args[0].node();
    const int dim = node.type.rank() - 1;
    const std::int64_t left = Int(node, 3), right = Int(node, 4);
    const bool cut = *node.args[8].get<bool>();
    std::int64_t padding = 0;
    if (cut) {
      input = Extended(input, dim, node.args[7], left, right);
    } else if (left == right) {
      padding = left;
    } else {
      input = Padded(input, dim, left, right);
    }
    std::vector<Argument> args = {input,
                                  node.args[1],
                                  node.args[2],
                                  Argument::List{1},
                                  Argument::List{padding},
                                  Argument::List{node.args[5]},
                                  node.args[6]};
    cut ? OnBlock(node, "aten.conv1d", std::move(args), dim, node.args[7])
        : Become(node, "aten.conv1d", std::move(args));
  }

  // Of what was computed with zeros in the tail, a tail may be what no true element is (0 under a root): it repeats the
  // last true element, as every tail does. That one is the same place of every block, of which one rank's counts.
  void OnBlock(Node& node, const char* op, std::vector<Argument> args, int dim, const Argument& length) {
    const Dim whole = NumberOf(length);
    if (graph_.IsDivisible(whole, ranks_)) {
      Become(node, op, std::move(args));
      return;
    }
    Node* block = Call("block", op, std::move(args), node.type);
    const Dim size = block->type.shape[static_cast<std::size_t>(dim)];
    const Dim last = Mod(whole - Dim(1), size);
    Node* mine = Slice(block, dim, last, last + Dim(1));
    Node* all = Call("ends", "autosp.all_gather", {mine}, Sized(mine->type, dim, Dim(ranks_)));
    Describe(*all, dim, ranks_);
    const Dim owner = FloorDiv(whole - Dim(1), size);
    Node* end = Slice(all, dim, owner, owner + Dim(1));
    Become(node, "aten.where.self", {Valid(*block, dim, length), block, end});
  }

  // Which positions of the block are no tail, in a shape that is broadcast against it.
  Node* Valid(const Node& block, int dim, const Argument& length) {
    const std::string& device = block.type.device;
    const Dim size = block.type.shape[static_cast<std::size_t>(dim)];
    Type index = IndexType({size}, device);
    Node* range = Call("places", "aten.arange", {Size(size)}, index);
    range->set_attribute("device", Argument::Constant{"device", device});
    Node* start = Call("start", "aten.mul.Scalar", {Rank(device), Size(size)}, IndexType({}, device));
    Node* places = Call("places", "aten.add.Tensor", {range, start}, index);
    index.dtype = DType::kBool;
    Node* valid = Call("valid", "aten.lt.Scalar", {places, length}, index);
    Argument::List shape = {Size(size)};
    for (int after = dim + 1; after < block.type.rank(); ++after) {
      shape.emplace_back(1);
      index.shape.emplace_back(1);
    }
    return shape.size() == 1 ? valid : Call("valid", "aten.reshape", {valid, std::move(shape)}, index);
  }

  static void Become(Node& node, const char* op, std::vector<Argument> args) {
    node.op = op;
    node.args = std::move(args);
    node.attributes.clear();
  }

  // x with what comes before and after its block.
  Node* Extended(Node* x, int dim, const Argument& length, std::int64_t left, std::int64_t right) {
    x = Masked(x, dim, length);
    Argument::List parts;
    if (left > 0) parts.emplace_back(Halo(x, dim, left, Side::kLeft));
    parts.emplace_back(x);
    if (right > 0) parts.emplace_back(Halo(x, dim, right, Side::kRight));
    Type type = x->type;
    Dim& size = type.shape[static_cast<std::size_t>(dim)];
    size = size + Dim(left + right);
    return Call("extended", "aten.cat", {std::move(parts), dim}, std::move(type));
  }

  Node* Masked(Node* x, int dim, const Argument& length) {
    if (graph_.IsDivisible(NumberOf(length), ranks_)) return x;
    Node* masked = Call("masked", "autosp.mask_padding", {x}, x->type);
    masked->set_attribute("value", 0.0);
    Describe(*masked, dim, length);
    return masked;
  }

  static Dim NumberOf(const Argument& size) {
    return size.node() == nullptr ? Dim(*size.get<std::int64_t>()) : size.node()->type.number;
  }

  static void Describe(Node& collective, int dim, Argument length) {
    collective.set_attribute("dim", dim);
    collective.set_attribute("major", 1);
    collective.set_attribute("length", std::move(length));
    collective.set_attribute("minor", 1);
    collective.set_attribute("group", Argument::Group("sp"));
  }

  Node* Halo(Node* x, int dim, std::int64_t width, Side side) {
    const Dim block = x->type.shape[static_cast<std::size_t>(dim)];
    const Dim edge = Min(Dim(width), block);
    const bool left = side == Side::kLeft;
    Node* mine = Slice(x, dim, left ? block - edge : Dim(0), left ? block : edge);
    Node* all = Call("edges", "autosp.all_gather", {mine}, Sized(mine->type, dim, edge * Dim(ranks_)));
    Describe(*all, dim, Size(edge * Dim(ranks_)));
    Node* padded = Padded(all, dim, left ? width : 0, left ? 0 : width);
    const std::string& device = x->type.device;
    Type index = IndexType({}, device);
    // Left: from r * e on, before which `width` zeros stand. Right: from (r + 1) * e on, after rank r's own edge.
    Node* start = Call("start", "aten.mul.Scalar", {Rank(device), Size(edge)}, index);
    if (!left) start = Call("start", "aten.add.Scalar", {start, Size(edge)}, index);
    index = IndexType({Dim(width)}, device);
    Node* positions = Call("positions", "aten.add.Tensor", {Arange(width, device), start}, index);
    return Call("halo", "aten.index_select", {padded, dim, positions}, Sized(padded->type, dim, Dim(width)));
  }

  Node* Slice(Node* x, int dim, const Dim& start, const Dim& end) {
    if (x->type.shape[static_cast<std::size_t>(dim)] == end - start) return x;
    return Call("edge", "aten.slice.Tensor", {x, dim, Size(start), Size(end)}, Sized(x->type, dim, end - start));
  }

  Node* Padded(Node* x, int dim, std::int64_t left, std::int64_t right) {
    const Dim size = x->type.shape[static_cast<std::size_t>(dim)] + Dim(left + right);
    return Call("padded", "aten.constant_pad_nd", {x, Around(*x, dim, left, right), 0}, Sized(x->type, dim, size));
  }

  // (left, right) pairs from the last dim on.
  static Argument::List Around(const Node& x, int dim, std::int64_t left, std::int64_t right) {
    Argument::List amounts(2 * static_cast<std::size_t>(x.type.rank() - 1 - dim), Argument(0));
    amounts.emplace_back(left);
    amounts.emplace_back(right);
    return amounts;
  }

  static Type Sized(Type type, int dim, const Dim& size) {
    type.shape[static_cast<std::size_t>(dim)] = size;
    return type;
  }

  static Type IndexType(const std::vector<Dim>& shape, const std::string& device) {
    Type type = Type::Tensor(DType::kI64, shape);
    type.device = device;
    return type;
  }

  // What all halos share stands before the first of them.
  Node* Rank(const std::string& device) {
    Node*& rank = shared_["rank " + device];
    if (rank == nullptr) {
      rank = Call("rank", "autosp_fx.mesh_coordinate", {Argument::Group("sp"), Argument::Constant{"device", device}},
                  IndexType({}, device));
    }
    return rank;
  }

  Node* Arange(std::int64_t size, const std::string& device) {
    Node*& range = shared_["arange " + std::to_string(size) + " " + device];
    if (range == nullptr) {
      range = Call("neighbours", "aten.arange", {size}, IndexType({Dim(size)}, device));
      range->set_attribute("device", Argument::Constant{"device", device});
    }
    return range;
  }

  Argument Size(const Dim& dim) {
    Expected<Argument> size = symbols_.Materialize(dim);
    if (size.ok()) return *size;
    failure_ = size.status();
    return 0;
  }

  Node* Call(const std::string& what, std::string op, std::vector<Argument> args, Type type) {
    Node* node = graph_.InsertBefore(at_, at_->name + "_" + what, std::move(op), std::move(args), std::move(type));
    node->provenance = at_->provenance;
    return node;
  }

  Graph& graph_;
  SymBuilder symbols_;
  const std::int64_t ranks_;
  Node* at_ = nullptr;  // New nodes go before it.
  Status failure_;
  std::map<std::string, Node*> shared_;
};

}  // namespace

Status LowerHalos(Graph& graph) { return HaloLowering(graph).Run(); }

}  // namespace autosp
