// The conformance cases over process groups of torch.distributed, for a driver in Python: gloo's headers are not part
// of the torch wheel, so only Python can make the groups. Plain C functions, called through ctypes.
#include "conformance.h"

#include <unistd.h>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

namespace runtime = autosp::runtime;
namespace conformance = autosp::runtime::conformance;

std::string& Problems() {
  static std::string problems;
  return problems;
}

}  // namespace

extern "C" {

int conformance_cases() { return static_cast<int>(conformance::Cases().size()); }
const char* conformance_name(int index) { return conformance::Cases()[static_cast<std::size_t>(index)].name; }
int conformance_breaks_groups(int index) {
  return conformance::Cases()[static_cast<std::size_t>(index)].breaks_groups ? 1 : 0;
}

// The problems of this rank, a line each; empty when there are none. Valid until the next call.
const char* conformance_run(int index, const char* first, const char* second) {
  const conformance::Case& each = conformance::Cases()[static_cast<std::size_t>(index)];
  Problems().clear();
  auto first_group = runtime::ResolveC10dCommunicator(first, at::kCPU, each.deadline);
  auto second_group = runtime::ResolveC10dCommunicator(second, at::kCPU, each.deadline);
  if (!first_group.ok() || !second_group.ok()) {
    Problems() = (first_group.ok() ? second_group : first_group).status().ToString();
    return Problems().c_str();
  }
  conformance::RankContext context;
  context.first = std::move(first_group.value());
  context.second = std::move(second_group.value());
  context.die = [] { _exit(9); };
  each.run(context);
  for (const std::string& problem : context.problems) Problems() += problem + "\n";
  return Problems().c_str();
}

}  // extern "C"
