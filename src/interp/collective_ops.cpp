// The collective nodes: arguments read and checked, then handed to the functions of collectives.h.
#include "collectives.h"
#include "execution_error.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/scalar_tensor.h>

#include <algorithm>
#include <string>
#include <utility>

namespace autosp::interp {
namespace {

constexpr std::string_view kLoweredPrefix = "_c10d_functional.";
constexpr std::string_view kAbstractPrefix = "autosp.";
constexpr std::string_view kRuntimePrefix = "autosp_rt.";  // The same operations, as torch ops.

class CollectiveCall {
 public:
  CollectiveCall(const Node& node, int ranks, const RankEvaluator& evaluate)
      : node_(node), ranks_(ranks), evaluate_(evaluate) {}

  std::vector<c10::IValue> Run();

 private:
  // An argument by position or by name.
  const Argument* Find(std::size_t position, const std::string& name) const {
    if (position < node_.args.size()) return &node_.args[position];
    return node_.attribute(name);
  }
  const Argument& Need(std::size_t position, const std::string& name) const {
    const Argument* argument = Find(position, name);
    if (argument == nullptr) throw ExecutionError(node_.op + " wants \"" + name + "\"");
    return *argument;
  }

  std::vector<at::Tensor> Operands() const {
    const Argument& argument = Need(0, "input");
    std::vector<at::Tensor> tensors;
    for (int rank = 0; rank < ranks_; ++rank) {
      const c10::IValue value = evaluate_(argument, rank);
      if (!value.isTensor()) {
        throw ExecutionError(node_.op + " wants a tensor, not " + DescribeValue(value) + " on rank " +
                             std::to_string(rank));
      }
      tensors.push_back(value.toTensor());
    }
    return tensors;
  }

  // A number on which all ranks must agree.
  std::int64_t AgreedInt(const Argument& argument, const std::string& name) const {
    const c10::IValue first = evaluate_(argument, 0);
    for (int rank = 0; rank < ranks_; ++rank) {
      const c10::IValue value = evaluate_(argument, rank);
      if (!value.isInt()) throw ExecutionError("\"" + name + "\" should be an integer, not " + DescribeValue(value));
      if (value.toInt() != first.toInt()) {
        throw ExecutionError("\"" + name + "\" is " + DescribeValue(first) + " on rank 0 and " + DescribeValue(value) +
                             " on rank " + std::to_string(rank));
      }
    }
    return first.toInt();
  }
  std::int64_t IntAttribute(const std::string& name, std::int64_t otherwise) const {
    const Argument* argument = node_.attribute(name);
    return argument == nullptr ? otherwise : AgreedInt(*argument, name);
  }

  Factor ReadFactor(const std::string& prefix) const {
    for (const char* name : {"dim", "length"}) {
      if (node_.attribute(prefix + name) == nullptr)
        throw ExecutionError(node_.op + " wants \"" + prefix + name + "\"");
    }
    Factor factor;
    factor.dim = IntAttribute(prefix + "dim", 0);
    factor.major = IntAttribute(prefix + "major", 1);
    factor.length = IntAttribute(prefix + "length", 0);
    factor.minor = IntAttribute(prefix + "minor", 1);
    return factor;
  }

  std::string ReadString(const Argument* argument, const std::string& otherwise) const {
    if (argument == nullptr) return otherwise;
    const c10::IValue value = evaluate_(*argument, 0);
    if (!value.isString()) throw ExecutionError("a name is wanted, not " + DescribeValue(value));
    return value.toStringRef();
  }

  void CheckGroup(const Argument* argument) const {
    const std::string group = ReadString(argument, "sp");
    if (group != "sp") {
      throw ExecutionError("the group \"" + group + "\" is not simulated, only the axis \"sp\"");
    }
  }

  template <typename F>
  std::vector<c10::IValue> OnEachRank(const F& result_of) const {
    std::vector<c10::IValue> results;
    for (int rank = 0; rank < ranks_; ++rank) results.emplace_back(result_of(rank));
    return results;
  }
  // A copy each: an operation that writes in place on one rank must not be seen by another.
  std::vector<c10::IValue> ToEachRank(const at::Tensor& tensor) const {
    return OnEachRank([&](int) { return tensor.clone(); });
  }
  std::vector<c10::IValue> Sliced(const at::Tensor& whole, const Factor& factor) const {
    return OnEachRank([&](int rank) { return ShardSlice(whole, factor, rank, ranks_); });
  }

  std::vector<c10::IValue> RunAbstract(std::string_view name);
  std::vector<c10::IValue> RunLowered(std::string_view name);
  std::vector<c10::IValue> ReadNeighbours() const;
  std::vector<c10::IValue> AllToAllSingle() const;
  std::vector<std::int64_t> ReadSplits(std::size_t position, const std::string& name, int rank) const;
  void CheckGroupSize(std::size_t position) const;

  const Node& node_;
  const int ranks_;
  const RankEvaluator& evaluate_;
};

std::vector<c10::IValue> CollectiveCall::RunAbstract(std::string_view name) {
  CheckGroup(node_.attribute("group"));
  if (name == "mesh_coordinate") {
    return OnEachRank([](int rank) { return at::scalar_tensor(rank, at::TensorOptions().dtype(c10::kLong)); });
  }
  const std::vector<at::Tensor> operands = Operands();
  if (name == "shard_slice") {
    const Factor factor = ReadFactor("");
    return OnEachRank(
        [&](int rank) { return ShardSlice(operands[static_cast<std::size_t>(rank)], factor, rank, ranks_); });
  }
  if (name == "all_gather") return ToEachRank(Gather(operands, ReadFactor("")));
  if (name == "all_to_all") return Sliced(Gather(operands, ReadFactor("")), ReadFactor("to_"));
  const std::string reduce = ReadString(node_.attribute("reduce"), "sum");
  if (name == "all_reduce") return ToEachRank(Reduce(operands, reduce));
  if (name == "reduce_scatter") return Sliced(Reduce(operands, reduce), ReadFactor(""));

  const Factor factor = ReadFactor("");  // mask_padding
  const Argument* value = node_.attribute("value");
  if (value == nullptr) throw ExecutionError(node_.op + " wants \"value\"");
  return OnEachRank([&](int rank) {
    const c10::IValue number = evaluate_(*value, rank);
    if (!number.isScalar()) throw ExecutionError("\"value\" should be a number, not " + DescribeValue(number));
    return MaskPadding(operands[static_cast<std::size_t>(rank)], factor, number.toScalar(), rank, ranks_);
  });
}

std::vector<std::int64_t> CollectiveCall::ReadSplits(std::size_t position, const std::string& name, int rank) const {
  const c10::IValue value = evaluate_(Need(position, name), rank);
  std::vector<std::int64_t> splits;
  if (!value.isList()) throw ExecutionError("\"" + name + "\" should be a list, not " + DescribeValue(value));
  for (const c10::IValue& split : value.toListRef()) {
    if (!split.isInt()) throw ExecutionError("\"" + name + "\" should hold integers, not " + DescribeValue(split));
    splits.push_back(split.toInt());
  }
  if (splits.size() != static_cast<std::size_t>(ranks_)) {
    throw ExecutionError("\"" + name + "\" has " + std::to_string(splits.size()) + " elements for " +
                         std::to_string(ranks_) + " ranks");
  }
  return splits;
}

std::vector<c10::IValue> CollectiveCall::AllToAllSingle() const {
  const std::vector<at::Tensor> operands = Operands();
  std::vector<std::vector<at::Tensor>> pieces;  // [from][to]
  for (int rank = 0; rank < ranks_; ++rank) {
    const at::Tensor& operand = operands[static_cast<std::size_t>(rank)];
    pieces.push_back(operand.split_with_sizes(ReadSplits(2, "input_split_sizes", rank), 0));
  }
  return OnEachRank([&](int rank) {
    const std::vector<std::int64_t> expected = ReadSplits(1, "output_split_sizes", rank);
    std::vector<at::Tensor> received;
    for (std::size_t from = 0; from < pieces.size(); ++from) {
      received.push_back(pieces[from][static_cast<std::size_t>(rank)]);
      if (received.back().size(0) != expected[from]) {
        throw ExecutionError("rank " + std::to_string(rank) + " expects " + std::to_string(expected[from]) +
                             " rows from rank " + std::to_string(from) + ", which sends " +
                             std::to_string(received.back().size(0)));
      }
    }
    return at::cat(received, 0);
  });
}

void CollectiveCall::CheckGroupSize(std::size_t position) const {
  const std::int64_t size = AgreedInt(Need(position, "group_size"), "group_size");
  if (size != ranks_) {
    throw ExecutionError("the group size is " + std::to_string(size) + " but " + std::to_string(ranks_) + " ranks run");
  }
}

std::vector<c10::IValue> CollectiveCall::RunLowered(std::string_view name) {
  if (name == "wait_tensor") {
    std::vector<at::Tensor> operands = Operands();
    return OnEachRank([&](int rank) { return operands[static_cast<std::size_t>(rank)]; });
  }
  if (name == "all_to_all_single") {
    CheckGroup(Find(3, "group_name"));
    return AllToAllSingle();
  }
  const std::vector<at::Tensor> operands = Operands();
  if (name == "all_gather_into_tensor") {
    CheckGroupSize(1);
    CheckGroup(Find(2, "group_name"));
    return ToEachRank(at::cat(operands, 0));
  }
  const at::Tensor reduced = Reduce(operands, ReadString(Find(1, "reduce_op"), "sum"));
  if (name == "all_reduce") {
    CheckGroup(Find(2, "group_name"));
    return ToEachRank(reduced);
  }
  CheckGroupSize(2);  // reduce_scatter_tensor
  CheckGroup(Find(3, "group_name"));
  if (reduced.dim() == 0 || reduced.size(0) % ranks_ != 0) {
    throw ExecutionError("dim 0 of " + DescribeValue(reduced) + " is not a multiple of " + std::to_string(ranks_));
  }
  const std::int64_t rows = reduced.size(0) / ranks_;
  return OnEachRank([&](int rank) { return reduced.narrow(0, rank * rows, rows).clone(); });
}

// autosp_fx.shift and autosp_fx.halo_conv1d: on blocks, each rank gets its block of what the whole would give.
std::vector<c10::IValue> CollectiveCall::ReadNeighbours() const {
  const bool shift = node_.op == "autosp_fx.shift";
  const std::vector<at::Tensor> operands = Operands();
  const std::int64_t dim = shift ? AgreedInt(Need(1, "dim"), "dim") : operands[0].dim() - 1;
  const std::int64_t left = AgreedInt(Need(shift ? 2 : 3, "left"), "left");
  const std::int64_t right = shift ? -left : AgreedInt(Need(4, "right"), "right");
  const c10::IValue cut = evaluate_(Need(shift ? 4 : 8, "cut"), 0);
  if (!cut.isBool()) throw ExecutionError("\"cut\" should be true or false, not " + DescribeValue(cut));
  const Factor factor{dim, 1, AgreedInt(Need(shift ? 3 : 7, "length"), "length"), 1};
  return OnEachRank([&](int rank) {
    const at::Tensor whole = cut.toBool() ? Gather(operands, factor) : operands[static_cast<std::size_t>(rank)];
    std::vector<std::int64_t> around(2 * static_cast<std::size_t>(whole.dim() - 1 - dim), 0);
    around.insert(around.end(), {left, right});
    at::Tensor result = at::constant_pad_nd(whole, around, 0);
    if (!shift) {
      const c10::IValue bias = evaluate_(Need(2, "bias"), rank);
      result = at::conv1d(result, evaluate_(Need(1, "weight"), rank).toTensor(),
                          bias.isNone() ? std::optional<at::Tensor>() : bias.toTensor(), 1, at::IntArrayRef{0},
                          AgreedInt(Need(5, "dilation"), "dilation"), AgreedInt(Need(6, "groups"), "groups"));
    }
    return cut.toBool() ? ShardSlice(result, factor, rank, ranks_) : result;
  });
}

std::vector<c10::IValue> CollectiveCall::Run() {
  if (node_.op == "autosp_fx.shift" || node_.op == "autosp_fx.halo_conv1d") return ReadNeighbours();
  if (node_.op == "autosp_fx.mesh_coordinate") {
    CheckGroup(Find(0, "group"));
    return OnEachRank([](int rank) { return at::scalar_tensor(rank, at::TensorOptions().dtype(c10::kLong)); });
  }
  const std::string_view op = node_.op;
  if (op.starts_with(kLoweredPrefix)) return RunLowered(op.substr(kLoweredPrefix.size()));
  if (op.starts_with(kRuntimePrefix)) return RunAbstract(op.substr(kRuntimePrefix.size()));
  return RunAbstract(op.substr(kAbstractPrefix.size()));
}

}  // namespace

bool IsCollective(std::string_view op) {
  const std::string_view prefix = op.substr(0, op.find('.') + 1);
  const std::string_view name = op.substr(prefix.size());
  const auto is_one_of = [&](std::initializer_list<std::string_view> names) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (prefix == kAbstractPrefix || prefix == kRuntimePrefix) {
    return is_one_of(
        {"shard_slice", "all_gather", "all_to_all", "all_reduce", "reduce_scatter", "mask_padding", "mesh_coordinate"});
  }
  if (prefix == kLoweredPrefix) {
    return is_one_of(
        {"all_to_all_single", "all_gather_into_tensor", "reduce_scatter_tensor", "all_reduce", "wait_tensor"});
  }
  return op == "autosp_fx.mesh_coordinate" || op == "autosp_fx.shift" || op == "autosp_fx.halo_conv1d";
}

std::vector<c10::IValue> RunCollective(const Node& node, int ranks, const RankEvaluator& evaluate) {
  return CollectiveCall(node, ranks, evaluate).Run();
}

}  // namespace autosp::interp
