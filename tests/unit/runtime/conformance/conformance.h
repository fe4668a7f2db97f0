// What every communicator must do, written from the view of one rank and run against each back end by its own driver:
// threads, mpirun, gloo processes started by Python, and NCCL's logic over a stand-in for the library.
#pragma once

#include <autosp/runtime/communicator.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace autosp::runtime::conformance {

// One rank's part in one case. Both groups hold all ranks, are fresh, and have the case's deadline.
struct RankContext {
  std::unique_ptr<Communicator> first;
  std::unique_ptr<Communicator> second;
  std::function<void()> die;  // Ends this rank as abruptly as the driver can; may return where it cannot.
  bool death_is_seen = true;  // Whether the driver's `die` closes the rank's end.
  std::vector<std::string> problems;

  std::int64_t rank() const { return first->rank(); }
  std::int64_t size() const { return first->size(); }
  bool last() const { return rank() == size() - 1; }
  void Expect(bool condition, const std::string& what);
};

struct Case {
  const char* name;
  void (*run)(RankContext&);
  std::chrono::milliseconds deadline{60000};
  bool breaks_groups = false;  // A rank dies or stays away; a driver may run these last.
};
const std::vector<Case>& Cases();

// The cases of conformance_faults.cpp.
std::vector<Case> FaultCases();

// Both operands and results of rank `rank` hold small integers, so that every dtype and every order of summation is
// exact.
at::Tensor Sample(at::IntArrayRef shape, at::ScalarType dtype, std::int64_t rank);

}  // namespace autosp::runtime::conformance
