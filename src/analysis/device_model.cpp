#include <autosp/analysis/device_model.h>

#include <fmt/format.h>

#include <charconv>
#include <map>
#include <sstream>

namespace autosp {
namespace {

Diagnostic Bad(std::string message) {
  return Diagnostic{DiagnosticCode::kBadOption, std::move(message), {}, "", {}, ""};
}

}  // namespace

const std::vector<DeviceModel>& ShippedDevices() {
  static const std::vector<DeviceModel> kDevices = {
#define AUTOSP_DEVICE(name, low, f32, bandwidth, link, memory, launch) \
  {name, low, f32, bandwidth, link, memory, launch},
#include "devices.def"
#undef AUTOSP_DEVICE
  };
  return kDevices;
}

Expected<DeviceModel> FindDevice(std::string_view name) {
  std::string names;
  for (const DeviceModel& device : ShippedDevices()) {
    if (device.name == name) return device;
    names += (names.empty() ? "" : ", ") + device.name;
  }
  return Bad(fmt::format("no device is named \"{}\"; there are {}, or a file that describes one", name, names));
}

Expected<DeviceModel> ReadDevice(std::string_view text) {
  DeviceModel device;
  std::map<std::string, double*> wanted = {{"flops_low", &device.flops_low},
                                           {"flops_f32", &device.flops_f32},
                                           {"memory_bandwidth", &device.memory_bandwidth},
                                           {"link_bandwidth", &device.link_bandwidth},
                                           {"memory", &device.memory},
                                           {"launch", &device.launch}};
  Status status;
  std::istringstream words{std::string(text)};
  for (std::string word; words >> word;) {
    const std::size_t equals = word.find('=');
    const std::string key = word.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
    if (key == "name" && !value.empty()) {
      device.name = value;
      continue;
    }
    const auto field = wanted.find(key);
    double number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (field == wanted.end()) {
      status.Add(Bad(fmt::format("a device description has no key \"{}\"", key)));
    } else if (error != std::errc() || end != value.data() + value.size() || !(number > 0)) {
      status.Add(Bad(fmt::format("{} of a device is \"{}\", it must be a number above 0", key, value)));
    } else {
      *field->second = number;
    }
  }
  for (const auto& [key, field] : wanted) {
    if (*field == 0 && key != "launch") status.Add(Bad(fmt::format("a device description lacks {}", key)));
  }
  if (device.name.empty()) status.Add(Bad("a device description lacks name"));
  if (!status.ok()) return status;
  return device;
}

}  // namespace autosp
