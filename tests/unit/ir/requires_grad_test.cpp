#include <autosp/ir/parser.h>
#include <autosp/ir/printer.h>
#include <autosp/ir/requires_grad.h>

#include <gtest/gtest.h>

namespace autosp {
namespace {

TEST(InferRequiresGrad, FollowsOperandsAndGradMode) {
  auto graph = Parse(R"(graph @g(%w: f32[4] grad, %x: f32[4], %ids: i64[4]) {
  %a = aten.mul.Tensor(%w, %x) : f32[4]
  %b = aten.relu(%x) : f32[4] grad
  %c = aten.gt.Scalar(%a, 0) : bool[4]
  %d = aten.detach(%a) : f32[4] grad
  %e = aten.split(%a, 2) : (f32[2], f32[2])
  %f = builtin.getitem(%e, 1) : f32[2]
  %g = aten.max.dim(%a, 0) : (f32[], i64[])
  %h = builtin.getitem(%g, -2) : f32[]
  %i = aten.zeros_like(%a) : f32[4] grad
  %off = builtin.set_grad_enabled(false) : none
  %j = aten.relu(%a) : f32[4] grad
  %k = builtin.getitem(%e, 0) : f32[2]
  %on = builtin.set_grad_enabled(true) : none
  %l = aten.cat([%x, %a]) : f32[8]
  %m = aten.add.Tensor(%j, %ids) {other=%w} : f32[4]
  return %m
})");
  ASSERT_TRUE(graph.ok()) << graph.status().ToString();
  InferRequiresGrad(*graph);
  std::string grad;
  for (const auto& node : graph->nodes()) {
    if (!node->is_output() && Print(node->type).find(" grad") != std::string::npos) grad += node->name + " ";
  }
  EXPECT_EQ(grad, "w a e f g h k l m ");
  EXPECT_EQ(Print(graph->Find("g")->type), "(f32[] grad, i64[])");
}

}  // namespace
}  // namespace autosp
