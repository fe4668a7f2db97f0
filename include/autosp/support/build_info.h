#pragma once

#include <string>
#include <vector>

namespace autosp {

// A part of the library that depends on what the machine that built it had.
struct BuildFeature {
  std::string name;    // "mpi"
  bool built = false;  // when the library was configured
  std::string detail;  // its version, or why it is missing
};

const std::string& Version();  // "0.1.0"
const std::vector<BuildFeature>& BuildFeatures();

// What `--version` of the tools prints.
std::string VersionText(const std::string& program);

}  // namespace autosp
