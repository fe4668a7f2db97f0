#pragma once

#include "conformance.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace autosp::runtime::conformance {

// Makes all ends of one group.
using MakeGroup =
    std::function<std::vector<std::unique_ptr<Communicator>>(const std::string& name, std::chrono::milliseconds)>;

// Runs a case with every rank on a thread of its own; the problems of all ranks.
std::vector<std::string> RunOnThreads(const Case& each, const MakeGroup& make_group);

}  // namespace autosp::runtime::conformance
