#include <autosp/ir/argument.h>
#include <autosp/ir/graph.h>

#include <gtest/gtest.h>

#include <limits>
#include <memory>

namespace autosp {
namespace {

TEST(Argument, EqualityIsStructural) {
  Graph graph;
  Node* x = graph.AddInput("x", Type::Int(3));
  Node* y = graph.AddInput("y", Type::Int(3));
  EXPECT_EQ(Argument(3), Argument(std::int64_t{3}));
  EXPECT_FALSE(Argument(3) == Argument(3.0));
  EXPECT_FALSE(Argument(true) == Argument(1));
  EXPECT_FALSE(Argument(x) == Argument(y));
  EXPECT_EQ(Argument(Argument::List{1, x, "a"}), Argument(Argument::List{1, x, "a"}));
  EXPECT_FALSE(Argument(Argument::List{1}) == Argument(Argument::List{1, 2}));
  EXPECT_EQ(Argument::Dtype(DType::kF32), Argument(Argument::Constant{"dtype", "f32"}));
  EXPECT_FALSE(Argument("sp") == Argument::Group("sp"));
  EXPECT_EQ(Argument(), Argument());
}

TEST(Argument, FloatsCompareByBits) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(Argument(nan), Argument(nan));
  EXPECT_FALSE(Argument(nan) == Argument(-nan));
  EXPECT_FALSE(Argument(0.0) == Argument(-0.0));
}

TEST(Argument, SlicesCompareByParts) {
  const auto make = [](int stop) {
    auto slice = std::make_shared<Argument::Slice>();
    slice->start = 0;
    slice->stop = stop;
    return Argument(slice);
  };
  EXPECT_EQ(make(2), make(2));
  EXPECT_FALSE(make(2) == make(3));
  EXPECT_FALSE(make(2) == Argument(std::shared_ptr<Argument::Slice>()));
}

TEST(Argument, ForEachNodeGoesLeftToRightThroughNesting) {
  Graph graph;
  Node* x = graph.AddInput("x", Type::Int(3));
  Node* y = graph.AddInput("y", Type::Int(3));
  auto slice = std::make_shared<Argument::Slice>();
  slice->stop = y;
  Argument argument = Argument::List{x, Argument::List{slice, 4}, x};
  std::string seen;
  ForEachNode(std::as_const(argument), [&](Node* node) { seen += node->name; });
  EXPECT_EQ(seen, "xyx");
  ForEachNode(argument, [&](Node*& node) { node = x; });
  EXPECT_EQ(slice->stop.node(), x);
}

}  // namespace
}  // namespace autosp
