#include "random_program.h"

#include <autosp/ir/printer.h>
#include <autosp/ir/requires_grad.h>

#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <sstream>

#include "program_blocks.h"

namespace autosp::test {
namespace {

class Writer {
 public:
  Writer(Program& program, const RuleTable& rules) : program_(program), b_(program.seed, rules, program.graph) {}

  void Write() {
    DrawSizes();
    DrawOptions();
    Node* x = Start();
    const std::int64_t steps = 2 + b_.Below(10);
    for (std::int64_t i = 0; i < steps; ++i) {
      const bool no_grad = b_.OneIn(14);
      if (no_grad) SwitchGrad(false);
      Node* made = b_.OneIn(3) ? Block(x) : RandomOperation(b_, b_.OneIn(3) ? x : b_.Pick());
      if (no_grad) SwitchGrad(true);
      // Blocks want hidden states: the stream is what has their form.
      if (made != nullptr && made->type.rank() == 3 && !no_grad && b_.OneIn(2)) x = made;
    }
    End(x);
    InferRequiresGrad(program_.graph);
  }

 private:
  void SwitchGrad(bool on) {
    program_.graph.AddCall(on ? "grad_on" : "grad_off", "builtin.set_grad_enabled", {on}, Type::Of(Type::Kind::kNone));
  }

  // Every third program runs at a fixed length; sizes are equal by accident as often.
  void DrawSizes() {
    Program& p = program_;
    p.ranks = 2 + static_cast<int>(b_.OneIn(2) ? b_.Below(3) : b_.Below(7));
    inputs_.ranks = p.ranks;
    const bool fixed = b_.OneIn(3);
    std::int64_t length = 2 + b_.Below(12);
    if (b_.OneIn(2)) length = p.ranks * (1 + b_.Below(3));
    if (fixed && length <= p.ranks && !b_.OneIn(20)) length += p.ranks;  // Refused: one position per rank.
    inputs_.length = fixed ? Dim(length) : Dim::Symbol("s0");
    const bool equal = b_.OneIn(3);
    std::int64_t batch = equal && length <= 6 && b_.OneIn(2) ? length : 1 + b_.Below(3);
    const bool named = !fixed && b_.OneIn(6);
    if (named) batch = std::max<std::int64_t>(batch, 2);
    inputs_.batch = named ? Dim::Symbol("s1") : Dim(batch);
    width_ = equal && length <= 8 && length > 1 ? length : b_.OneOf<std::int64_t>({2, 4, 6, 8, 3});
    std::map<std::string, std::int64_t> sizes;
    if (!fixed) sizes["s0"] = length;
    if (named) sizes["s1"] = batch;
    p.runs.push_back(sizes);
    if (!fixed && b_.OneIn(3)) {
      // Another step at another length: facts that were stated hold there too.
      const std::int64_t other = length % p.ranks == 0 ? p.ranks * (1 + b_.Below(3)) : 2 + b_.Below(12);
      sizes["s0"] = std::max<std::int64_t>(other, 2);
      p.runs.push_back(sizes);
    }
    p.graph.hints() = p.runs.front();
    b_.runs = p.runs;
    // A framework passes each symbol as a number of its own, or leaves it to be read off a tensor.
    for (const auto& [symbol, value] : p.runs.front()) {
      if (!b_.OneIn(4)) p.graph.AddInput(symbol, Type::Int(Dim::Symbol(symbol)));
    }
  }

  void DrawOptions() {
    PassOptions& options = program_.options;
    options.sequence_parallel_size = program_.ranks;
    options.outputs = b_.OneOf<const char*>({"sharded", "sharded", "gathered", "loss_only"});
    if (b_.OneIn(5)) options.attention = "gather";
    options.collectives = b_.OneIn(2) ? "functional" : "fused";
    program_.lowered = b_.OneIn(4);
  }

  Node* Start() {
    inputs_.batch_first = !b_.OneIn(6);
    const Dim first = inputs_.batch_first ? inputs_.batch : inputs_.length;
    const Dim second = inputs_.batch_first ? inputs_.length : inputs_.batch;
    const int tag = inputs_.batch_first ? 1 : 0;
    const Shape positions = {first, second};
    // A symbol without an input of its own is read off the first tensor that has it.
    Node* x = nullptr;
    if (b_.OneIn(4)) {
      Node* features = b_.Input("x", DType::kF64, {first, second, width_}, tag);
      x = b_.Call("aten.linear", {features, b_.Weight({width_, width_})}, {first, second, width_});
    } else {
      inputs_.ids = b_.Input("ids", DType::kI64, positions, tag);
      x = b_.Call("aten.embedding", {b_.Weight({7, width_}), inputs_.ids}, {first, second, width_});
    }
    if (!b_.OneIn(4)) inputs_.labels = b_.Input("labels", DType::kI64, positions, tag);
    if (inputs_.batch_first && b_.OneIn(2))
      inputs_.mask = b_.Input("mask", DType::kBool, positions, b_.OneIn(4) ? -1 : tag);
    if (b_.OneIn(3)) inputs_.positions = b_.Input("positions", DType::kI64, positions, tag);
    return b_.OneIn(2) ? x : WithPositions(x);
  }

  Node* WithPositions(Node* x) {
    const Shape& shape = x->type.shape;
    if (inputs_.positions != nullptr) {
      Node* table = b_.Call("aten.embedding", {b_.Weight({9, width_}), inputs_.positions}, shape);
      return b_.Call("aten.add.Tensor", {x, table}, shape);
    }
    if (!inputs_.batch_first) return x;
    if (inputs_.length.is_constant()) return b_.Call("aten.add.Tensor", {x, b_.Weight({shape[1], width_})}, shape);
    Node* weight = b_.Weight({40, width_});
    Node* range = b_.Call("aten.arange", {b_.Size(shape[1])}, {shape[1]}, DType::kI64);
    Node* rows = b_.OneIn(2) ? b_.Call("aten.embedding", {weight, range}, {shape[1], width_})
                             : b_.Call("aten.slice.Tensor", {weight, 0, 0, b_.Size(shape[1])}, {shape[1], width_});
    return b_.Call("aten.add.Tensor", {x, rows}, shape);
  }

  Node* Block(Node* x) {
    if (!b_.OneIn(3)) return AttentionBlock(b_, inputs_, x);
    return MlpBlock(b_, x);
  }

  // The loss is the sum of one term per chosen value; what nobody else reads is chosen first.
  void End(Node* stream) {
    const auto users = program_.graph.Users();
    std::vector<Node*> ends = {stream};
    for (Node* value : b_.values()) {
      const auto found = users.find(value);
      if ((found == users.end() || found->second.empty()) && value != stream && !b_.OneIn(3)) ends.push_back(value);
    }
    std::vector<Node*> returned;
    Node* total = nullptr;
    for (Node* end : ends) {
      if (end->op == "aten.detach" || ends.size() > 5) continue;
      Node* term = Loss(b_, inputs_, end, returned);
      if (term == nullptr) continue;
      total = total == nullptr ? term : b_.Call("aten.add.Tensor", {total, term}, {});
    }
    if (total == nullptr) total = Loss(b_, inputs_, stream, returned);
    std::vector<Argument> outputs = {total};
    for (Node* value : returned) {
      if (outputs.size() < 3) outputs.emplace_back(value);
    }
    if (inputs_.labels != nullptr && b_.OneIn(8)) outputs.emplace_back(inputs_.labels);
    program_.graph.SetOutput(std::move(outputs));
  }

  Program& program_;
  ProgramBuilder b_;
  ProgramInputs inputs_;
  std::int64_t width_ = 4;
};

}  // namespace

std::string Program::Text() const {
  std::ostringstream text;
  text << "// seed " << seed << ", sequence_parallel_size=" << ranks << " outputs=" << options.outputs
       << " attention=" << options.attention;
  for (const auto& sizes : runs) {
    text << "; run";
    for (const auto& [symbol, size] : sizes) text << " " << symbol << "=" << size;
  }
  text << "\n" << Print(graph);
  return text.str();
}

Program RandomProgram(std::uint64_t seed, const RuleTable& rules) {
  Program program;
  program.seed = seed;
  program.graph.set_name("program");
  Writer(program, rules).Write();
  return program;
}

Expected<SpmdInputs> MakeProgramInputs(const Graph& graph, const std::map<std::string, std::int64_t>& sizes,
                                       std::uint64_t seed) {
  RandomInputOptions options;
  options.seed = seed;
  options.sizes = sizes;
  for (const Node* input : graph.inputs()) {
    const std::string& name = input->name;
    if (name.starts_with("ids")) options.int_ranges[name] = {0, 7};
    if (name.starts_with("labels")) options.int_ranges[name] = {0, 5};
    if (name.starts_with("positions")) options.int_ranges[name] = {0, 9};
    if (name.starts_with("index")) options.int_ranges[name] = {0, std::max(1, name[5] - '0')};
  }
  AUTOSP_ASSIGN_OR_RETURN(SpmdInputs inputs, MakeRandomInputs(graph, options));
  for (auto& [name, value] : inputs) {
    if (!value.isTensor()) continue;
    at::Tensor tensor = value.toTensor();
    if (name.starts_with("labels") && tensor.numel() > 0) {
      // A third of them is ignored, in one piece or scattered; never all of them.
      at::Tensor flat = tensor.view(-1);
      const std::int64_t count = flat.numel();
      const bool scattered = seed % 2 == 0;
      for (std::int64_t i = 0; i + 1 < count; ++i) {
        if (scattered ? (i * 7 + static_cast<std::int64_t>(seed % 5)) % 3 == 0 : i < count / 2) flat[i] = -100;
      }
    }
    if (name.starts_with("mask") && tensor.dim() > 0) tensor.select(-1, 0).fill_(true);
  }
  return inputs;
}

}  // namespace autosp::test
