#pragma once

#include <autosp/interp/compare.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace autosp {

struct TrainedStep {
  double loss = 0;
  std::optional<double> whole_loss;  // With --check.
};

// Everything that autosp-run found out.
struct RunReport {
  std::string graph;
  int ranks = 1;
  std::map<std::string, std::int64_t> symbols;
  std::vector<std::vector<c10::IValue>> outputs;  // [rank][output]
  std::vector<TrainedStep> steps;
  std::optional<Comparison> comparison;
  bool equal = true;
};

std::string ToTables(const RunReport& report);
std::string ToJson(const RunReport& report);
std::string ToJson(const Status& status);

}  // namespace autosp
