#pragma once

#include <autosp/ir/type.h>
#include <autosp/support/status.h>

#include <string>
#include <string_view>
#include <vector>

namespace autosp {

// What a roofline needs to know of a device. Rates per second; bytes, not bits.
struct DeviceModel {
  std::string name;
  double flops_low = 0;  // f16, bf16: dense matrix multiply-adds count as 2
  double flops_f32 = 0;
  double memory_bandwidth = 0;
  double link_bandwidth = 0;  // that one rank sends at, to the others of its group
  double memory = 0;          // bytes
  double launch = 0;          // seconds that every kernel costs besides its work
};

// The devices of devices.def, in its order.
const std::vector<DeviceModel>& ShippedDevices();
// A shipped device by name; kBadOption lists the names.
Expected<DeviceModel> FindDevice(std::string_view name);
// Reads "name=mine flops_low=1e15 flops_f32=6e13 memory_bandwidth=3e12 link_bandwidth=4e11 memory=8e10 launch=4e-6", in
// any order, separated by spaces or line ends; every key but launch is required. All bad words are reported.
Expected<DeviceModel> ReadDevice(std::string_view text);

}  // namespace autosp
