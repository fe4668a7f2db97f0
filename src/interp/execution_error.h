#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include <stdexcept>
#include <string>

namespace autosp::interp {

// Thrown inside this room only; SpmdInterpreter::Run turns it, and what torch throws, into diagnostics.
class ExecutionError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// "f64[2, 3]", "int 7", "(f32[2], none)": how messages name a run-time value.
std::string DescribeValue(const c10::IValue& value);
std::string DescribeShape(at::IntArrayRef shape);  // "[2, 3]"

// The text of the exception being handled, without torch's stack trace. Only inside a catch block.
std::string CurrentExceptionText();

}  // namespace autosp::interp
