#include "exchange_halos.h"

#include <autosp/ir/printer.h>
#include <autosp/ir/sym_builder.h>
#include <autosp/sharding/op_rules.h>
#include <autosp/sharding/reach.h>

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string>

namespace autosp {
namespace {

// Part [start, start + length) of one dim of `source`, which is the whole of `source` along every other dim.
struct Part {
  Node* source = nullptr;
  int dim = 0;
  std::int64_t start = 0;
};

// `source` with `left` and `right` zeros around one dim; negative numbers take elements away.
struct ZeroPad {
  Node* source = nullptr;
  int dim = 0;
  std::int64_t left = 0, right = 0;
};

class HaloSearch {
 public:
  HaloSearch(Graph& graph, PassContext& context)
      : graph_(graph),
        context_(context),
        symbols_(graph),
        users_(graph.Users()),
        reached_(ReachedByCut(graph)),
        ranks_(graph.axis_size()) {
    for (const Node* input : graph.inputs()) {
      if (input->seq_dim >= 0) lengths_.push_back(input->type.shape[static_cast<std::size_t>(input->seq_dim)]);
    }
  }

  Expected<bool> Run() {
    std::vector<Node*> calls;
    for (const auto& node : graph_.nodes()) {
      if (node->is_call()) calls.push_back(node.get());
    }
    bool changed = false;
    for (Node* node : calls) {
      AUTOSP_ASSIGN_OR_RETURN(const bool here, Visit(*node));
      changed = changed || here;
    }
    RemoveUnread();
    return changed;
  }

 private:
  // The pads, slices and zeros that nobody reads any more: propagation would still gather what they read.
  void RemoveUnread() {
    bool removed = true;
    while (removed) {
      const std::map<const Node*, std::vector<Node*>> users = graph_.Users();
      removed =
          graph_.RemoveIf([&](const Node& node) { return orphans_.contains(&node) && users.at(&node).empty(); }) > 0;
    }
  }

  // `node` becomes another call; what it read may be read by nobody then.
  void Become(Node& node, const char* op, std::vector<Argument> args) {
    for (const Node* operand : node.operands()) {
      for (const Node* before : operand->operands()) {
        if (before->is_call()) orphans_.insert(before);
      }
      if (operand->is_call()) orphans_.insert(operand);
    }
    node.op = op;
    node.args = std::move(args);
    node.attributes.clear();
  }

  Expected<bool> Visit(Node& node) {
    if (node.op == "aten.conv1d" || node.op == "aten.conv1d.padding") return VisitConvolution(node);
    std::optional<std::pair<Part, std::int64_t>> shift = ShiftOf(node);
    if (!shift) return false;
    return Shift(node, *shift->first.source, shift->first.dim, shift->second);
  }

  // ---- What calls say.

  std::optional<CallArguments> ArgumentsOf(const Node& node) const {
    const OpRule* rule = context_.rules->Find(node.op);
    if (rule == nullptr) return std::nullopt;
    return CallArguments(node, *rule);
  }

  std::optional<ZeroPad> PadOf(const Node& node) const {
    if (!node.is_call("aten.pad") && !node.is_call("aten.constant_pad_nd")) return std::nullopt;
    const CallArguments arguments = *ArgumentsOf(node);
    const Argument* mode = arguments.Find("mode");
    const auto* text = mode == nullptr ? nullptr : mode->get<std::string>();
    if ((mode != nullptr && (text == nullptr || *text != "constant")) || arguments.Double("value", 0) != 0) {
      return std::nullopt;
    }
    const Argument* pad = arguments.Find("pad");
    if (pad == nullptr || pad->list() == nullptr) return std::nullopt;
    ZeroPad found;
    found.source = node.args[0].node();
    const Argument::List& amounts = *pad->list();
    int padded = 0;
    for (std::size_t i = 0; i + 1 < amounts.size(); i += 2) {  // (left, right) pairs from the last dim on
      const auto* left = amounts[i].get<std::int64_t>();
      const auto* right = amounts[i + 1].get<std::int64_t>();
      if (left == nullptr || right == nullptr) return std::nullopt;
      if (*left == 0 && *right == 0) continue;
      ++padded;
      found.dim = node.type.rank() - 1 - static_cast<int>(i / 2);
      found.left = *left;
      found.right = *right;
    }
    if (padded != 1 || found.source == nullptr) return std::nullopt;
    return found;
  }

  std::optional<Part> SliceOf(const Node& node) const {
    if (!node.is_call("aten.slice.Tensor") || node.args[0].node() == nullptr) return std::nullopt;
    const CallArguments arguments = *ArgumentsOf(node);
    const std::optional<std::int64_t> dim = arguments.Int("dim");
    const Argument* start = arguments.Find("start");
    if (arguments.Int("step").value_or(1) != 1) return std::nullopt;
    const std::int64_t axis = dim.value_or(0) < 0 ? *dim + node.type.rank() : dim.value_or(0);
    if (start != nullptr && start->get<std::int64_t>() == nullptr) return std::nullopt;
    const std::int64_t first = start == nullptr ? 0 : *start->get<std::int64_t>();
    if (first < 0) return std::nullopt;
    return Part{node.args[0].node(), static_cast<int>(axis), first};
  }

  // How many more elements dim `dim` of a has than that of b; nothing where that depends on a symbol.
  static std::optional<std::int64_t> Longer(const Node& a, const Node& b, int dim) {
    return (a.type.shape[static_cast<std::size_t>(dim)] - b.type.shape[static_cast<std::size_t>(dim)]).constant();
  }

  static bool IsZeros(const Node& node) {
    if (node.is_call("aten.zeros") || node.is_call("aten.new_zeros") || node.is_call("aten.zeros_like")) return true;
    if (!node.is_call("aten.full") || node.args.size() < 2) return false;
    const auto* number = node.args[1].get<double>();
    const auto* integer = node.args[1].get<std::int64_t>();
    return (number != nullptr && *number == 0) || (integer != nullptr && *integer == 0);
  }

  // ---- Shifts: y[i] = x[i - amount], zeros outside.

  std::optional<std::pair<Part, std::int64_t>> ShiftOf(const Node& node) const {
    if (node.is_call("aten.cat")) return ShiftByJoin(node);
    if (const std::optional<ZeroPad> pad = PadOf(node)) {
      if (pad->left == -pad->right) return {{Part{pad->source, pad->dim, 0}, pad->left}};
      // Zeros take the place of what a slice left out, at the other end.
      const std::optional<Part> kept = SliceOf(*pad->source);
      if (!kept || kept->dim != pad->dim || Longer(node, *kept->source, pad->dim) != 0) return std::nullopt;
      if (kept->start == 0 && pad->right == 0) return {{*kept, pad->left}};
      const std::optional<std::int64_t> left_out = Longer(*kept->source, *pad->source, kept->dim);
      if (pad->left == 0 && left_out == kept->start) return {{*kept, -kept->start}};
      return std::nullopt;
    }
    if (const std::optional<Part> part = SliceOf(node)) {
      const std::optional<ZeroPad> pad = PadOf(*part->source);
      if (!pad || pad->dim != part->dim || pad->left < 0 || pad->right < 0) return std::nullopt;
      if (Longer(node, *pad->source, pad->dim) != 0) return std::nullopt;
      return {{Part{pad->source, pad->dim, 0}, pad->left - part->start}};
    }
    return std::nullopt;
  }

  // cat([zeros, x[:-n]]) and cat([x[n:], zeros]).
  std::optional<std::pair<Part, std::int64_t>> ShiftByJoin(const Node& node) const {
    const Argument::List* parts = node.args[0].list();
    if (parts == nullptr || parts->size() != 2) return std::nullopt;
    Node* first = (*parts)[0].node();
    Node* second = (*parts)[1].node();
    if (first == nullptr || second == nullptr || IsZeros(*first) == IsZeros(*second)) return std::nullopt;
    const bool zeros_first = IsZeros(*first);
    const std::optional<Part> kept = SliceOf(zeros_first ? *second : *first);
    const std::int64_t along = ArgumentsOf(node)->Int("dim").value_or(0);
    if (!kept || (along < 0 ? along + node.type.rank() : along) != kept->dim) return std::nullopt;
    if (Longer(node, *kept->source, kept->dim) != 0 || first->type.dtype != second->type.dtype) return std::nullopt;
    const std::optional<std::int64_t> zeros =
        (zeros_first ? first : second)->type.shape[static_cast<std::size_t>(kept->dim)].constant();
    if (!zeros) return std::nullopt;
    if (zeros_first && kept->start == 0) return {{*kept, *zeros}};
    if (!zeros_first && kept->start == *zeros) return {{*kept, -*zeros}};
    return std::nullopt;
  }

  Expected<bool> Shift(Node& node, Node& source, int dim, std::int64_t amount) {
    if (amount == 0 || !IsCheaper(source, dim, amount < 0 ? -amount : amount)) return false;
    AUTOSP_ASSIGN_OR_RETURN(Argument length, symbols_.Materialize(source.type.shape[static_cast<std::size_t>(dim)]));
    Become(node, "autosp_fx.shift", {&source, dim, amount, std::move(length), false});
    Report(node, source, dim, amount < 0 ? -amount : amount);
    return true;
  }

  // ---- Convolutions.

  Expected<bool> VisitConvolution(Node& node) {
    const CallArguments arguments = *ArgumentsOf(node);
    const Node* weight = arguments.Find("weight") == nullptr ? nullptr : arguments.Find("weight")->node();
    Node* input = node.args[0].node();
    if (weight == nullptr || input == nullptr || input->type.rank() != 3) return false;
    const std::optional<std::int64_t> kernel = weight->type.shape[2].constant();
    const std::vector<std::int64_t> strides = arguments.Ints("stride");
    const std::vector<std::int64_t> dilations = arguments.Ints("dilation");
    const std::int64_t dilation = dilations.empty() ? 1 : dilations[0];
    if (!kernel || std::any_of(strides.begin(), strides.end(), [](std::int64_t stride) { return stride != 1; })) {
      return false;
    }
    const std::int64_t span = (*kernel - 1) * dilation;
    std::optional<std::int64_t> left = PaddingOf(arguments, span);
    if (!left) return false;
    if (const std::optional<ZeroPad> pad = PadOf(*input); pad && pad->dim == 2 && pad->left >= 0 && pad->right >= 0) {
      input = pad->source;
      *left += pad->left;
    }
    Node* result = ResultOf(node, *input, *left);
    if (result == nullptr || *left < 0 || *left > span || !IsCheaper(*input, 2, span)) return false;
    AUTOSP_ASSIGN_OR_RETURN(Argument length, symbols_.Materialize(input->type.shape[2]));
    const Argument* bias = arguments.Find("bias");
    const Argument groups = arguments.Int("groups").value_or(1);
    const std::vector<Argument> made = {input,
                                        *arguments.Find("weight"),
                                        bias == nullptr ? Argument() : *bias,
                                        *left,
                                        span - *left,
                                        dilation,
                                        groups,
                                        length,
                                        false};
    Become(*result, "autosp_fx.halo_conv1d", made);
    Report(*result, *input, 2, span);
    return true;
  }

  // Zeros that the call itself puts before its input.
  static std::optional<std::int64_t> PaddingOf(const CallArguments& arguments, std::int64_t span) {
    const Argument* padding = arguments.Find("padding");
    if (padding == nullptr) return 0;
    if (const auto* text = padding->get<std::string>()) {
      if (*text == "same") return span / 2;  // The odd one goes to the right.
      return *text == "valid" ? std::optional<std::int64_t>(0) : std::nullopt;
    }
    const std::vector<std::int64_t> amounts = arguments.Ints("padding");
    return amounts.size() == 1 ? std::optional(amounts[0]) : std::nullopt;
  }

  // Whose value is the convolution of the length of `input`: the call itself, or its one reader, a slice of it, and
  // then `left` counts from that slice. Null: another length.
  Node* ResultOf(Node& node, const Node& input, std::int64_t& left) const {
    if (Longer(node, input, 2) == 0) return &node;
    const std::vector<Node*>& readers = users_.at(&node);
    if (readers.size() != 1) return nullptr;
    const std::optional<Part> part = SliceOf(*readers[0]);
    if (!part || part->dim != 2 || Longer(*readers[0], input, 2) != 0) return nullptr;
    left -= part->start;
    return readers[0];
  }

  // ---- Whether it pays.

  bool IsCheaper(const Node& source, int dim, std::int64_t width) const {
    const Dim& length = source.type.shape[static_cast<std::size_t>(dim)];
    const bool tagged = std::find(lengths_.begin(), lengths_.end(), length) != lengths_.end();
    const std::int64_t elements = length.Evaluate(graph_.hints()).value_or(0);
    return tagged && width > 0 && reached_.contains(&source) && IsFloating(source.type.dtype) &&
           width * ranks_ < elements;
  }

  void Report(const Node& node, const Node& source, int dim, std::int64_t width) {
    context_.remarks.push_back({"exchange-halos", "%" + node.name,
                                fmt::format("reads {} neighbours along dim {} of {}: ranks exchange the edges of their "
                                            "blocks, {} of {} positions, instead of gathering it",
                                            width, dim, Describe(source), width * ranks_,
                                            source.type.shape[static_cast<std::size_t>(dim)].ToString()),
                                node.provenance.location});
  }

  Graph& graph_;
  PassContext& context_;
  SymBuilder symbols_;
  const std::map<const Node*, std::vector<Node*>> users_;  // Looked up only.
  const std::set<const Node*> reached_;                    // Looked up only.
  const std::int64_t ranks_;
  std::vector<Dim> lengths_;       // Of the tagged dims.
  std::set<const Node*> orphans_;  // Looked up only.
};

class ExchangeHalosPass : public Pass {
 public:
  const char* name() const override { return "exchange-halos"; }
  Form form_in() const override { return Form::kNormalized; }
  Form form_out() const override { return Form::kNormalized; }
  const char* summary() const override { return "convolutions and shifts read the edges of their neighbours' blocks"; }
  Expected<bool> Run(Graph& graph, PassContext& context) const override { return HaloSearch(graph, context).Run(); }
};

}  // namespace

std::unique_ptr<Pass> MakeExchangeHalosPass() { return std::make_unique<ExchangeHalosPass>(); }

}  // namespace autosp
