#pragma once

#include <autosp/interp/compare.h>
#include <autosp/interp/random_inputs.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace autosp {

struct RunArguments {
  std::string file;
  std::optional<int> ranks;         // Default: the axis "sp" of the file's mesh.
  std::optional<DType> dtype;       // Default: as the file says.
  std::string whole_file;           // --check
  std::optional<double> tolerance;  // Default by dtype.
  int steps = 0;
  double learning_rate = 0.01;
  bool json = false;
  bool help = false;
  bool version = false;
  RandomInputOptions inputs;
  std::vector<Layout> output_layouts;
};

// kBadOption lists every argument that cannot be used.
Expected<RunArguments> ParseRunArguments(const std::vector<std::string>& arguments);
std::string RunHelp();

}  // namespace autosp
