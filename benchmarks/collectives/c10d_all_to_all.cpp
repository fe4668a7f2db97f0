// For run_gloo.py: one Communicator::AllToAll over a process group of torch.distributed, from a loop in Python.
#include <autosp/runtime/communicator.h>

#include <ATen/ops/ones.h>

#include <cstdint>
#include <memory>
#include <utility>

namespace {

struct Bench {
  std::unique_ptr<autosp::runtime::Communicator> group;
  at::Tensor x;
};

Bench& TheBench() {
  static Bench bench;
  return bench;
}

}  // namespace

extern "C" int bench_prepare(const char* group, std::int64_t bytes) {
  auto made = autosp::runtime::ResolveC10dCommunicator(group, at::kCPU);
  if (!made.ok()) return 1;
  TheBench().group = std::move(made.value());
  TheBench().x = at::ones({TheBench().group->size(), bytes / TheBench().group->size()}, at::kByte);
  return 0;
}

extern "C" int bench_call() { return TheBench().group->AllToAll(TheBench().x).ok() ? 0 : 1; }

// Before the process group ends: gloo's threads must not outlive the interpreter.
extern "C" void bench_release() { TheBench() = Bench(); }
