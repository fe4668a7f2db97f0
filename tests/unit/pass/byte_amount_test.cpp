#include <autosp/pass/byte_amount.h>

#include <gtest/gtest.h>

namespace autosp {
namespace {

TEST(ByteAmount, ReadsNumbersWithAndWithoutUnit) {
  EXPECT_EQ(ParseBytes("300000"), 300000.0);
  EXPECT_EQ(ParseBytes("300000 B"), 300000.0);
  EXPECT_EQ(ParseBytes("512 KiB"), 512.0 * 1024);
  EXPECT_EQ(ParseBytes("1.5GiB"), 1.5 * 1024 * 1024 * 1024);
}

TEST(ByteAmount, RefusesWhatIsNoAmount) {
  for (const char* text : {"", "GiB", "3 GB", "0", "-1", "1e999", "nan", "12 MiB more", " 12"}) {
    EXPECT_FALSE(ParseBytes(text).has_value()) << text;
  }
}

}  // namespace
}  // namespace autosp
