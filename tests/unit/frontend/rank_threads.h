#pragma once

#include <autosp/runtime/communicator.h>
#include <autosp/runtime/communicator_table.h>

#include <torch/csrc/jit/api/module.h>

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace autosp::testing {

// Runs work(rank) on one thread per rank of a group "sp" inside this process; the first exception is thrown again.
inline void OnRankThreads(int ranks, const std::function<void(int)>& work) {
  auto ends = runtime::MakeInProcessGroup("sp", ranks, std::chrono::seconds(60));
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        auto registration = runtime::RegisterCommunicator("sp", std::move(ends[static_cast<std::size_t>(rank)]),
                                                          runtime::RegistrationScope::kThread);
        if (!registration.ok()) throw std::runtime_error(registration.status().ToString());
        work(rank);
      } catch (...) {
        errors[static_cast<std::size_t>(rank)] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

}  // namespace autosp::testing
