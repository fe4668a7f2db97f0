#pragma once

#include <autosp/ir/parser.h>
#include <autosp/pass/pass.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace autosp {

// A pass whose work is a lambda.
class ToyPass : public Pass {
 public:
  using Work = std::function<Expected<bool>(Graph&, PassContext&)>;
  ToyPass(std::string name, Form form_in, Form form_out, Work work)
      : name_(std::move(name)), form_in_(form_in), form_out_(form_out), work_(std::move(work)) {}
  const char* name() const override { return name_.c_str(); }
  Form form_in() const override { return form_in_; }
  Form form_out() const override { return form_out_; }
  const char* summary() const override { return "a toy"; }
  Expected<bool> Run(Graph& graph, PassContext& context) const override { return work_(graph, context); }

 private:
  std::string name_;
  Form form_in_, form_out_;
  Work work_;
};

inline std::unique_ptr<Pass> Toy(std::string name, Form form_in, Form form_out, ToyPass::Work work) {
  return std::make_unique<ToyPass>(std::move(name), form_in, form_out, std::move(work));
}

// Sets the form and nothing else.
inline std::unique_ptr<Pass> FormOnly(std::string name, Form form_in, Form form_out) {
  return Toy(std::move(name), form_in, form_out, [form_out](Graph& graph, PassContext&) -> Expected<bool> {
    graph.set_form(form_out);
    return false;
  });
}

constexpr const char* kToyGraph =
    "graph @toy(%x: f32[2, 4]) form=captured {\n"
    "  %y = aten.mul.Tensor(%x, 2) : f32[2, 4]\n"
    "  %z = aten.add.Tensor(%y, %x) : f32[2, 4]\n"
    "  return %z\n"
    "}\n";

inline Graph ToyGraph() {
  Expected<Graph> graph = Parse(kToyGraph, "toy");
  return graph.ok() ? std::move(*graph) : Graph("the toy graph cannot be parsed: " + graph.status().ToString());
}

}  // namespace autosp
