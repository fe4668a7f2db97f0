#include <autosp/ir/parser.h>
#include <autosp/ir/printer.h>
#include <autosp/ir/type.h>

#include <gtest/gtest.h>

namespace autosp {
namespace {

TEST(DType, NamesAndSizes) {
#define X(name, text, torch, bytes)                  \
  EXPECT_STREQ(ToString(DType::name), text);         \
  EXPECT_STREQ(TorchName(DType::name), torch);       \
  EXPECT_EQ(DTypeFromString(text), DType::name);     \
  EXPECT_EQ(DTypeFromTorchName(torch), DType::name); \
  EXPECT_EQ(ByteSize(DType::name), bytes);
  AUTOSP_DTYPES(X)
#undef X
  EXPECT_FALSE(DTypeFromString("float32"));
  EXPECT_TRUE(IsFloating(DType::kBF16) && IsFloating(DType::kC64));
  EXPECT_FALSE(IsFloating(DType::kBool) || IsFloating(DType::kI64));
}

TEST(Type, EqualityReadsOnlyWhatTheKindHas) {
  Type a = Type::Tensor(DType::kF32, {2, Dim::Symbol("s0")}), b = a;
  EXPECT_EQ(a, b);
  b.requires_grad = true;
  EXPECT_NE(a, b);
  b = a;
  b.layout = Layout::Replicated();
  EXPECT_NE(a, b);
  Type c = Type::Int(3), d = Type::Int(3);
  d.device = "cuda";
  EXPECT_EQ(c, d);
  EXPECT_NE(Type::Tuple({a}), Type::Tuple({a, a}));
}

TEST(Layout, EqualityAndText) {
  const Dim s0 = Dim::Symbol("s0");
  EXPECT_EQ(Layout().ToString(), "unset");
  EXPECT_EQ(Layout::Replicated().ToString(), "replicated");
  EXPECT_EQ(Layout::Partial().ToString(), "partial(sum)");
  EXPECT_EQ(Layout::Sharded(1, s0).ToString(), "sharded(1)");
  EXPECT_EQ(Layout::Sharded(0, s0, Dim::Symbol("b")).ToString(), "sharded(0, major=b, length=s0, minor=1)");
  EXPECT_NE(Layout::Partial(ReduceOp::kMax), Layout::Partial());
  EXPECT_NE(Layout::Sharded(1, s0), Layout::Sharded(2, s0));
  EXPECT_EQ(Layout::Sharded(1, s0), Layout::Sharded(1, s0));
}

TEST(Type, TextReadsBack) {
  for (const char* text :
       {"f32[]", "bf16[2, s0*2 + 1, 64] grad", "f32[2, 64]{whole}", "f32[2, s0@sp, 64]", "f32[s0*6]",
        "f32[(2, s0@sp, 3)] grad", "f32[(2, s0@sp, 3)=s0]", "f32[2]{sum:sp} grad", "f32[2]{dim 4: s0@sp}",
        "i64[1]{max:sp} device=cuda:0", "int(s0*2)", "float", "boolean", "none", "opaque", "(f32[2], (i64[s0], none))",
        "()", "f8e4m3[ceildiv(s0, 4)] device=\"a b\""}) {
    auto type = ParseType(text);
    ASSERT_TRUE(type.ok()) << text << type.status().ToString();
    const std::string printed = Print(*type);
    auto again = ParseType(printed);
    ASSERT_TRUE(again.ok()) << printed;
    EXPECT_EQ(*again, *type) << text;
    EXPECT_EQ(printed, text);
  }
}

}  // namespace
}  // namespace autosp
