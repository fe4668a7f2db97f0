#pragma once

#include <autosp/interp/spmd_interpreter.h>

#include <ATen/core/Tensor.h>

#include <stdexcept>
#include <string>

namespace autosp::interp {

// Thrown inside this room only; SpmdInterpreter::Run turns it, and what torch throws, into diagnostics.
class ExecutionError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

std::string DescribeShape(at::IntArrayRef shape);  // "[2, 3]"

// The text of the exception being handled, without torch's stack trace. Only inside a catch block.
std::string CurrentExceptionText();

}  // namespace autosp::interp
