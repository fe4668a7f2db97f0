#include "random_graph.h"

#include <autosp/ir/dim.h>

#include <gtest/gtest.h>

#include <limits>

namespace autosp {
namespace {

constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kMin = std::numeric_limits<std::int64_t>::min();

const Dim s0 = Dim::Symbol("s0"), s1 = Dim::Symbol("s1");

Dim D(std::string_view text) {
  auto dim = Dim::Parse(text);
  EXPECT_TRUE(dim.ok()) << text << "\n" << (dim.ok() ? "" : dim.status().ToString());
  return dim.ok() ? *dim : Dim();
}

TEST(Dim, PrintsOneCanonicalText) {
  EXPECT_EQ(Dim(128).ToString(), "128");
  EXPECT_EQ(Dim().ToString(), "0");
  EXPECT_EQ((Dim(2) * s0).ToString(), "s0*2");
  EXPECT_EQ((Dim(1) + s1 * s0).ToString(), "s0*s1 + 1");
  EXPECT_EQ((s1 + s0 - Dim(3)).ToString(), "s0 + s1 - 3");
  EXPECT_EQ((Dim(-2) * s0 * s0 - s1).ToString(), "-s0*s0*2 - s1");
  EXPECT_EQ((FloorDiv(s0 + 1, 2) * 3).ToString(), "floordiv(s0 + 1, 2)*3");
  EXPECT_EQ((FloorDiv(s0, 2) * s1).ToString(), "s1*floordiv(s0, 2)");
  EXPECT_EQ(Max(4, s0), Max(s0, 4));
  EXPECT_EQ(Dim(kMin).ToString(), "-9223372036854775808");
  EXPECT_EQ(Dim::Symbol("odd name").ToString(), "\"odd name\"");
}

TEST(Dim, EqualValuesAreEqual) {
  EXPECT_EQ(s0 + s1, s1 + s0);
  EXPECT_EQ((s0 + 1) * (s0 - 1), s0 * s0 - 1);
  EXPECT_EQ(s0 - s0, Dim(0));
  EXPECT_NE(s0, s1);
  EXPECT_NE(s0, s0 * s0);
  EXPECT_NE(FloorDiv(s0, 2), CeilDiv(s0, 2));
  EXPECT_EQ(Dim::Symbol("max"), D("max"));
}

TEST(Dim, Inspection) {
  EXPECT_EQ(Dim(7).constant(), 7);
  EXPECT_FALSE(s0.constant());
  EXPECT_TRUE(Dim(1).is_one() && Dim().is_zero() && Dim(5).is_constant());
  EXPECT_EQ(s0.symbol(), "s0");
  EXPECT_FALSE((s0 * 2).symbol());
  EXPECT_FALSE(CeilDiv(s0, 2).symbol());
  EXPECT_EQ((CeilDiv(s1, s0) + s1).Symbols(), (std::vector<std::string>{"s0", "s1"}));
}

TEST(Dim, ExactDivision) {
  EXPECT_EQ(ExactDiv(s0 * s1 * 4, s1 * 2), s0 * 2);
  EXPECT_EQ(ExactDiv(s0, 2), std::nullopt);
  EXPECT_EQ(ExactDiv(s0 * 2 + 2, 2), s0 + 1);
  EXPECT_EQ(ExactDiv(s0, 0), std::nullopt);
  EXPECT_EQ(ExactDiv(0, s0), Dim(0));
  EXPECT_EQ(ExactDiv(s0, s0 * s0), std::nullopt);
  EXPECT_EQ(ExactDiv((s0 + s1) * (s0 - 3), s0 - 3), s0 + s1);
  EXPECT_EQ(ExactDiv(s0 * s0 - 1, s0 + 1), s0 - 1);
  EXPECT_EQ(ExactDiv(s0 * s0 + 1, s0 + 1), std::nullopt);
  EXPECT_EQ(ExactDiv(CeilDiv(s0, 4) * s1, CeilDiv(s0, 4)), s1);
  EXPECT_EQ(ExactDiv(kMin, -1), std::nullopt);
}

TEST(Dim, CallsFoldOnlyWhenExact) {
  EXPECT_EQ(FloorDiv(-7, 2), Dim(-4));
  EXPECT_EQ(CeilDiv(-7, 2), Dim(-3));
  EXPECT_EQ(CeilDiv(7, 2), Dim(4));
  EXPECT_EQ(Mod(-7, 2), Dim(1));
  EXPECT_EQ(Mod(7, -2), Dim(-1));
  EXPECT_EQ(FloorDiv(s0 * 4, 2), s0 * 2);
  EXPECT_EQ(CeilDiv(s0 * 4, 4), s0);
  EXPECT_EQ(Mod(s0 * 4, 2), Dim(0));
  EXPECT_EQ(FloorDiv(s0, s0), Dim(1));
  EXPECT_EQ(Max(s0, s0 + 1), s0 + 1);
  EXPECT_EQ(Min(s0, s0 + 1), s0);
  EXPECT_EQ(Max(2, 3), Dim(3));
  EXPECT_EQ(FloorDiv(s0, 2).ToString(), "floordiv(s0, 2)");
  EXPECT_EQ(FloorDiv(4, 0).ToString(), "floordiv(4, 0)");
  EXPECT_FALSE(FloorDiv(4, 0).Evaluate({}));
}

TEST(Dim, OverflowStaysTrue) {
  const Dim sum = Dim(kMax) + 1, product = s0 * kMax * s1 * 2;
  EXPECT_FALSE(sum.is_constant());
  EXPECT_EQ(sum, Dim(1) + kMax);
  EXPECT_NE(sum, Dim(kMin));
  EXPECT_FALSE(sum.Evaluate({}));
  EXPECT_EQ(product.Symbols(), (std::vector<std::string>{"s0", "s1"}));
  EXPECT_EQ(D(sum.ToString()), sum);
  EXPECT_EQ(D(product.ToString()), product);
  EXPECT_EQ(product.Evaluate({{"s0", 0}, {"s1", 3}}), 0);
  EXPECT_EQ(product.Evaluate({{"s0", 1}, {"s1", 1}}), std::nullopt);
  EXPECT_EQ(product.Substitute({{"s1", 0}}), Dim(0));
  EXPECT_EQ(Dim(kMin) * Dim(-1), Dim(-1) * Dim(kMin));
}

TEST(Dim, SubstituteFoldsAgain) {
  EXPECT_EQ(FloorDiv(s0, 4).Substitute({{"s0", s1 * 4}}), s1);
  EXPECT_EQ((s0 * s0 + s1).Substitute({{"s0", s1 + 1}, {"s1", 2}}), s1 * s1 + s1 * 2 + 3);
  EXPECT_EQ(Max(s0, 4).Substitute({{"s0", 9}}), Dim(9));
}

TEST(Dim, ParseErrors) {
  for (const char* text : {"", "s0 +", "floordiv(s0)", "s0 s1", "99999999999999999999", "(s0", "*", "ceildiv(s0, 4"}) {
    auto dim = Dim::Parse(text);
    ASSERT_FALSE(dim.ok()) << text;
    EXPECT_EQ(dim.status().diagnostics()[0].code, DiagnosticCode::kParseError);
  }
  EXPECT_EQ(Dim::Parse("s0 s1").status().diagnostics()[0].message,
            "expected the end of the size, found \"s1\" at line 1, column 4");
}

// Arithmetic on Dims and arithmetic on their values agree, and the text reads back.
TEST(Dim, RandomArithmeticAgreesWithIntegers) {
  test::Random random(3);
  int checked = 0, divided = 0;
  for (int i = 0; i < 20000; ++i) {
    const Dim a = test::RandomDim(random), b = test::RandomDim(random);
    ASSERT_EQ(D(a.ToString()), a) << a.ToString();
    ASSERT_EQ(D(a.ToString()).ToString(), a.ToString());
    const auto value = [&] { return random.Below(9) - 2; };
    const std::map<std::string, std::int64_t> bindings = {
        {"s0", value()}, {"s1", value()}, {"s2", value()}, {"s3", value()}};
    const auto x = a.Evaluate(bindings), y = b.Evaluate(bindings);
    const auto small = [](std::int64_t number) { return -(1 << 20) < number && number < (1 << 20); };
    if (!x || !y || !small(*x) || !small(*y)) continue;
    ++checked;
    ASSERT_EQ((a + b).Evaluate(bindings), *x + *y) << a.ToString() << " + " << b.ToString();
    ASSERT_EQ((a - b).Evaluate(bindings), *x - *y) << a.ToString() << " - " << b.ToString();
    ASSERT_EQ((a * b).Evaluate(bindings), *x * *y) << a.ToString() << " * " << b.ToString();
    ASSERT_EQ(Max(a, b).Evaluate(bindings), std::max(*x, *y)) << a.ToString() << " max " << b.ToString();
    ASSERT_EQ(Min(a, b).Evaluate(bindings), std::min(*x, *y)) << a.ToString() << " min " << b.ToString();
    std::map<std::string, Dim> constants;
    for (const auto& [name, number] : bindings) constants[name] = number;
    ASSERT_EQ(a.Substitute(constants), Dim(*x)) << a.ToString();
    if (const auto quotient = ExactDiv(a * b, b)) {
      ++divided;
      ASSERT_EQ(*quotient, a) << a.ToString() << " / " << b.ToString();
    }
    if (*y == 0) continue;
    const std::int64_t floor = *x / *y - (*x % *y != 0 && (*x < 0) != (*y < 0) ? 1 : 0);
    ASSERT_EQ(FloorDiv(a, b).Evaluate(bindings), floor) << a.ToString() << " // " << b.ToString();
    ASSERT_EQ(CeilDiv(a, b).Evaluate(bindings), floor + (floor * *y != *x ? 1 : 0));
    ASSERT_EQ(Mod(a, b).Evaluate(bindings), *x - floor * *y) << a.ToString() << " % " << b.ToString();
  }
  EXPECT_GT(checked, 10000);
  EXPECT_GT(divided, checked / 2);
}

}  // namespace
}  // namespace autosp
