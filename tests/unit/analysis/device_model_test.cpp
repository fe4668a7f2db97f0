#include <autosp/analysis/device_model.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace autosp {
namespace {

TEST(DeviceModel, ShippedDevicesAreFoundByName) {
  for (const char* name : {"cpu", "a100", "h100", "h200", "mi300x"}) {
    ASSERT_TRUE(FindDevice(name).ok());
    EXPECT_EQ(FindDevice(name)->name, name);
    EXPECT_GT(FindDevice(name)->memory, 1e9);
  }
  EXPECT_THAT(FindDevice("h300").status().ToString(), testing::HasSubstr("no device is named \"h300\"; there are cpu"));
}

TEST(DeviceModel, ReadsADescriptionAndReportsAllBadWords) {
  const auto device =
      ReadDevice("name=mine flops_low=2e14 flops_f32=1e13\nmemory_bandwidth=1e12 link_bandwidth=1e11 memory=8e10");
  ASSERT_TRUE(device.ok()) << device.status().ToString();
  EXPECT_EQ(device->flops_low, 2e14);
  const std::string text = ReadDevice("flops_low=-1 speed=3 memory=x").status().ToString();
  for (const char* part : {"flops_low of a device is \"-1\"", "no key \"speed\"", "memory of a device is \"x\"",
                           "lacks flops_f32", "lacks name"}) {
    EXPECT_THAT(text, testing::HasSubstr(part));
  }
}

}  // namespace
}  // namespace autosp
