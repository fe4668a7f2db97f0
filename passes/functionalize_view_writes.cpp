#include "functionalize_view_writes.h"

#include <autosp/ir/printer.h>

#include <algorithm>
#include <array>
#include <limits>

namespace autosp {
namespace {

constexpr std::int64_t kToTheEnd = std::numeric_limits<std::int64_t>::max();

// Results are memory of their own that nobody else knows.
constexpr std::array<std::string_view, 13> kFactories = {
    "aten.clone",     "aten.empty",    "aten.empty_like", "aten.full",       "aten.full_like",
    "aten.new_empty", "aten.new_full", "aten.new_zeros",  "aten.zeros_like", "aten.new_ones",
    "aten.ones_like", "aten.ones",     "aten.zeros"};

// Positions [start, end) of one dim. A part that was not written has no value: it is the old tensor there.
struct Part {
  Dim start, end;
  Node* value = nullptr;
};

// A tensor that is written in parts, all along one dim.
struct Filling {
  Node* original = nullptr;
  int dim = 0;
  std::vector<Part> parts;  // In order, without gaps.
};

// What a view shows of its base.
struct Region {
  int dim = 0;
  Dim start, end;
  bool select = false;  // One index, and the dim is gone.
};

class ViewWrites {
 public:
  explicit ViewWrites(Graph& graph) : graph_(graph) {}

  bool Run() {
    std::vector<Node*> calls;
    for (const auto& node : graph_.nodes()) {
      if (node->is_call()) calls.push_back(node.get());
    }
    for (Node* node : calls) {
      if (node->op == "builtin.set_grad_enabled" && !node->args.empty() && node->args[0].get<bool>() != nullptr) {
        grad_mode_ = *node->args[0].get<bool>();
      }
      if (node->op == "aten.copy_" || node->op == "aten.fill_.Scalar" || node->op == "aten.fill_.Tensor" ||
          node->op == "aten.zero_")
        Visit(*node);
    }
    RemoveUnread();
    return changed_;
  }

 private:
  void Visit(Node& write) {
    Node* view = write.args.empty() ? nullptr : write.args[0].node();
    const std::optional<Region> region = view == nullptr ? std::nullopt : RegionOf(*view);
    if (!region) return;
    Node* base = view->args[0].node();
    if (!IsOwn(*base) || !IsOnlyView(*base, *view, write)) return;
    // Gradients are off: the tensor keeps those it has, and readers of the view must not reach those of the source.
    const std::vector<Node*> operands = write.operands();
    const auto has_gradient = [](const Node* node) { return node->type.requires_grad; };
    if (!grad_mode_ && (has_gradient(base) || std::ranges::any_of(operands, has_gradient))) return;
    if (write.op == "aten.copy_" && !CanCopy(write, *view)) return;
    if (write.op == "aten.fill_.Tensor" && write.args[1].node() == nullptr) return;
    Filling filling = FillingOf(*base, region->dim);
    const std::optional<std::vector<Part>> parts = Overwrite(filling.parts, *region);
    if (!parts) return;
    filling.parts = *parts;

    last_ = &write;
    Node* value = ValueOf(write, *view);
    Node* in_place = value;
    if (region->select) {
      Type type = view->type;
      type.shape.insert(type.shape.begin() + region->dim, Dim(1));
      type.requires_grad = value->type.requires_grad;
      in_place = Insert(write, "_part", "aten.unsqueeze", {value, region->dim}, type);
    }
    for (Part& part : filling.parts) {
      if (part.start == region->start && part.end == region->end) part.value = in_place;
    }
    const bool read_again = IsReadAfter(*view, write) || IsReadAfter(write, write);
    Node* whole = Join(filling, *base, write);
    RedirectLater(base, whole);
    if (read_again) {
      // A view again, of the new tensor: whoever writes to one of them later is seen to change the other as well, and
      // the source stays memory of its own.
      Node* seen = ViewOf(*whole, *view, write);
      RedirectLater(view, seen);
      RedirectLater(&write, seen);
    }
    fillings_[whole] = std::move(filling);
    unread_.insert(unread_.end(), {&write, view, base});
    changed_ = true;
  }

  bool IsReadAfter(const Node& value, const Node& write) const {
    const std::map<const Node*, int> position = graph_.Numbering();
    const std::map<const Node*, std::vector<Node*>> users = graph_.Users();
    return std::ranges::any_of(users.at(&value),
                               [&](const Node* user) { return position.at(user) > position.at(&write); });
  }

  Node* ViewOf(Node& whole, const Node& view, const Node& write) {
    std::vector<Argument> args = view.args;
    args[0] = &whole;
    Type type = view.type;
    type.requires_grad = whole.type.requires_grad;
    Node* seen = Insert(write, "_view", view.op.c_str(), std::move(args), type);
    unread_.push_back(seen);
    return seen;
  }

  static std::optional<Region> RegionOf(const Node& view) {
    const bool select = view.is_call("aten.select.int");
    if ((!select && !view.is_call("aten.slice.Tensor")) || view.args.empty() || !view.attributes.empty()) return {};
    const Node* base = view.args[0].node();
    if (base == nullptr || !base->type.is_tensor() || !view.type.is_tensor()) return {};
    const auto integer = [&](std::size_t i, std::int64_t absent) -> std::optional<std::int64_t> {
      if (i >= view.args.size() || view.args[i].is_none()) return absent;
      const auto* value = view.args[i].get<std::int64_t>();
      return value == nullptr ? std::nullopt : std::optional(*value);
    };
    const std::optional<std::int64_t> dim = integer(1, 0);
    const std::optional<std::int64_t> first = integer(2, 0);
    const std::optional<std::int64_t> step = integer(4, 1);
    if (!dim || !first || !step || *step != 1 || *dim >= base->type.rank() || *dim < -base->type.rank()) return {};
    Region region;
    region.dim = static_cast<int>(*dim < 0 ? *dim + base->type.rank() : *dim);
    region.select = select;
    const Dim size = base->type.shape[region.dim];
    region.start = *first < 0 ? size + Dim(*first) : Dim(*first);
    region.end = region.start + (select ? Dim(1) : view.type.shape[region.dim]);
    return region;
  }

  bool IsOwn(const Node& base) const {
    return fillings_.contains(&base) || (base.is_call() && std::ranges::find(kFactories, base.op) != kFactories.end());
  }

  // Whether nobody but `view` can tell the old memory from a new value: other views are not read after the write.
  bool IsOnlyView(const Node& base, const Node& view, const Node& write) const {
    const std::map<const Node*, int> position = graph_.Numbering();
    const std::map<const Node*, std::vector<Node*>> users = graph_.Users();
    const int now = position.at(&write);
    for (const Node* user : users.at(&view)) {
      if (position.at(user) < now) return false;
    }
    // Case 1: the shape alone is read. Case 2: a view that nobody read but a write that is replaced already.
    const auto reads_shape = [](const Node* node) {
      return node->op.ends_with("_like") || node->op.starts_with("aten.new_") || node->op == "aten.sym_size.int";
    };
    const auto is_harmless = [&](const Node* reader) {
      return reads_shape(reader) || std::ranges::find(unread_, reader) != unread_.end();
    };
    return std::ranges::all_of(users.at(&base), [&](const Node* user) {
      if (user == &view || position.at(user) > now || reads_shape(user)) return true;
      const bool is_view = user->is_call("aten.slice.Tensor") || user->is_call("aten.select.int");
      return is_view && std::ranges::all_of(users.at(user), is_harmless);
    });
  }

  static bool CanCopy(const Node& write, const Node& view) {
    const Node* source = write.args.size() > 1 ? write.args[1].node() : nullptr;
    return source != nullptr && source->type.is_tensor() && source->type.shape == view.type.shape &&
           source->type.device == view.type.device;
  }

  Filling FillingOf(Node& base, int dim) const {
    const auto known = fillings_.find(&base);
    if (known != fillings_.end() && known->second.dim == dim) return known->second;
    return Filling{&base, dim, {Part{Dim(0), base.type.shape[dim], nullptr}}};
  }

  // The parts with `region` as one of them; nothing when it cuts through a part that was written.
  static std::optional<std::vector<Part>> Overwrite(const std::vector<Part>& parts, const Region& region) {
    std::vector<Part> result;
    bool placed = false;
    const auto sign = [](const Dim& difference) { return difference.constant(); };
    for (const Part& part : parts) {
      const std::optional<std::int64_t> before =
          sign(part.end - region.start);  // <= 0: the part ends before the region.
      const std::optional<std::int64_t> after = sign(part.start - region.end);  // >= 0: it starts after the region.
      if (part.value != nullptr || (before && *before <= 0) || (after && *after >= 0)) {
        if ((before && *before <= 0) || (after && *after >= 0)) {
          result.push_back(part);
          continue;
        }
        const std::optional<std::int64_t> left = sign(region.start - part.start);
        const std::optional<std::int64_t> right = sign(part.end - region.end);
        if (!left || !right || *left > 0 || *right > 0) return {};
      } else {
        // A part of the old tensor is cut. A view lies within the whole tensor; that it lies within one of many parts
        // must be seen.
        const std::optional<std::int64_t> left = sign(region.start - part.start);
        const std::optional<std::int64_t> right = sign(part.end - region.end);
        if (parts.size() > 1 && (!left || !right || *left < 0 || *right < 0)) return {};
        if (region.start != part.start) result.push_back(Part{part.start, region.start, nullptr});
      }
      if (!placed) result.push_back(Part{region.start, region.end, nullptr});
      placed = true;
      if (part.value == nullptr && region.end != part.end) result.push_back(Part{region.end, part.end, nullptr});
    }
    // Bounds of what stays of the old tensor are written as numbers.
    for (const Part& part : result) {
      const bool is_region = part.start == region.start && part.end == region.end;
      const bool bounded = part.start.constant() && (part.end.constant() || part.end == parts.back().end);
      if (part.value == nullptr && !is_region && !bounded) return {};
    }
    return placed ? std::optional(result) : std::nullopt;
  }

  Node* ValueOf(Node& write, const Node& view) {
    if (write.op == "aten.copy_") {
      Node* source = write.args[1].node();
      if (source->type.dtype == view.type.dtype) return source;
      Type type = view.type;
      type.requires_grad = source->type.requires_grad;
      return Insert(write, "_cast", "aten.to.dtype", {source, Argument::Dtype(type.dtype)}, type);
    }
    if (write.op == "aten.fill_.Tensor") return Filled(write, view);
    const Argument fill = write.op == "aten.zero_" ? Argument(0) : write.args[1];
    Type type = view.type;
    type.requires_grad = false;
    return Insert(write, "_fill", "aten.full_like", {write.args[0], fill}, type);
  }

  // One number that is a tensor, in all places of the view.
  Node* Filled(Node& write, const Node& view) {
    Node* number = write.args[1].node();
    Type type = view.type;
    type.requires_grad = number->type.requires_grad;
    if (number->type.dtype != type.dtype) {
      Type cast = number->type;
      cast.dtype = type.dtype;
      number = Insert(write, "_cast", "aten.to.dtype", {number, Argument::Dtype(type.dtype)}, cast);
    }
    return Insert(write, "_fill", "aten.expand_as", {number, write.args[0]}, type);
  }

  // The new value of the whole tensor.
  Node* Join(const Filling& filling, const Node& base, Node& write) {
    Argument::List values;
    Type type = base.type;
    type.requires_grad = false;
    for (const Part& part : filling.parts) {
      Node* value = part.value;
      if (value == nullptr) {
        Type slice = filling.original->type;
        slice.shape[filling.dim] = part.end - part.start;
        const bool to_the_end = part.end == base.type.shape[filling.dim];
        value = Insert(
            write, "_rest", "aten.slice.Tensor",
            {filling.original, filling.dim, *part.start.constant(), to_the_end ? kToTheEnd : *part.end.constant()},
            slice);
        unread_.push_back(value);
      }
      type.requires_grad = type.requires_grad || (grad_mode_ && value->type.requires_grad);
      values.emplace_back(value);
    }
    if (values.size() > 1) return Insert(write, "_parts", "aten.cat", {values, filling.dim}, type);
    return Insert(write, "_parts", "aten.clone", {values[0]}, type);  // A copy: the source may be written later.
  }

  Node* Insert(const Node& write, const char* suffix, const char* op, std::vector<Argument> args, const Type& type) {
    last_ = graph_.InsertAfter(last_, write.name + suffix, op, std::move(args), type);
    last_->provenance = write.provenance;
    return last_;
  }

  // Who comes after what was inserted for the write reads `to` instead of `from`.
  void RedirectLater(const Node* from, Node* to) {
    bool later = false;
    for (const auto& reader : graph_.nodes()) {
      if (later) {
        const auto redirect = [&](Node*& value) {
          if (value == from) value = to;
        };
        for (Argument& argument : reader->args) ForEachNode(argument, redirect);
        for (auto& [key, argument] : reader->attributes) ForEachNode(argument, redirect);
      }
      later = later || reader.get() == last_;
    }
  }

  // Writes, views and old values that nobody reads any more; last first, so that what they read is seen as unread too.
  void RemoveUnread() {
    for (bool again = true; again;) {
      const std::map<const Node*, std::vector<Node*>> users = graph_.Users();
      again = graph_.RemoveIf([&](const Node& node) {
        return (std::ranges::find(unread_, &node) != unread_.end() || fillings_.contains(&node)) &&
               users.at(&node).empty();
      }) > 0;
    }
  }

  Graph& graph_;
  std::map<const Node*, Filling> fillings_;  // By the value that joins the parts. Looked up only.
  std::vector<const Node*> unread_;          // Perhaps.
  Node* last_ = nullptr;                     // Where the next node for the current write goes: after this one.
  bool grad_mode_ = true;
  bool changed_ = false;
};

class FunctionalizeViewWritesPass : public Pass {
 public:
  const char* name() const override { return "functionalize-view-writes"; }
  Form form_in() const override { return Form::kCaptured; }
  Form form_out() const override { return Form::kCaptured; }
  const char* summary() const override {
    return "a tensor that is filled part by part becomes the concatenation of its parts";
  }
  Expected<bool> Run(Graph& graph, PassContext&) const override { return ViewWrites(graph).Run(); }
};

}  // namespace

std::unique_ptr<Pass> MakeFunctionalizeViewWritesPass() { return std::make_unique<FunctionalizeViewWritesPass>(); }

}  // namespace autosp
