#pragma once

#include <autosp/ir/graph.h>

#include <string>

namespace autosp {

struct PrintOptions {
  bool locations = true;  // loc("model.py":41 in "Attention.forward", module "layers.0.attn")
};

// The text form of docs/ir.md. Parse(Print(g)) gives an equal graph, and Print(Parse(Print(g))) == Print(g).
//
//   mesh @m = {"dp"=1, "sp"=4}
//   hints {s0=128}
//   divisible {s0 % 4}
//   graph @layer(%q: f32[2, 8, s0@sp, 16] grad, %ids: i64[2, s0] tag=1) form=sharded {
//     %o = aten.scaled_dot_product_attention(%q, %q, %q) {is_causal=true} : f32[2, 8, s0@sp, 16] grad
//     loc("model.py":41) return %o
//   }
//
// Types with layouts: `s0@sp` is a dim sharded as a whole; `(2, s0@sp, 3)` a dim of size s0*6 whose middle factor is
// sharded; `{sum:sp}` after the shape is a partial sum; `{whole}` a replicated value where the form has layouts (forms
// Sharded and Resharded; elsewhere nothing is printed for replicated and unset). In form Partitioned and later shapes
// are local and layouts are not printed at all.
std::string Print(const Graph& graph, const PrintOptions& options = {});
std::string Print(const Node& node, const PrintOptions& options = {});  // one line, no indentation
std::string Print(const Type& type);
std::string Print(const Argument& argument);

// "%q f32[2, 8, s0@sp, 16]": how diagnostics name a value.
std::string Describe(const Node& node);

}  // namespace autosp
