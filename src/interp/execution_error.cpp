#include "execution_error.h"

#include "torch_types.h"

#include <c10/util/Exception.h>

#include <exception>
#include <sstream>

namespace autosp::interp {

std::string DescribeShape(at::IntArrayRef shape) {
  std::ostringstream out;
  out << '[';
  for (std::size_t i = 0; i < shape.size(); ++i) out << (i ? ", " : "") << shape[i];
  out << ']';
  return out.str();
}

std::string CurrentExceptionText() {
  try {
    throw;
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "an exception of unknown type";
  }
}

}  // namespace autosp::interp

namespace autosp {

std::string DescribeValue(const c10::IValue& value) {
  if (value.isNone()) return "none";
  if (value.isBool()) return value.toBool() ? "true" : "false";
  if (value.isInt()) return "int " + std::to_string(value.toInt());
  if (value.isDouble()) return "float " + std::to_string(value.toDouble());
  if (value.isString()) return '"' + value.toStringRef() + '"';
  if (value.isTensor()) {
    const at::Tensor& tensor = value.toTensor();
    return tensor.defined() ? interp::ScalarTypeName(tensor.scalar_type()) + interp::DescribeShape(tensor.sizes())
                            : "undefined";
  }
  if (!value.isTuple() && !value.isList()) return value.tagKind();
  std::string text = value.isTuple() ? "(" : "[";
  const auto append = [&text](const c10::IValue& element) {
    if (text.size() > 1) text += ", ";
    text += DescribeValue(element);
  };
  if (value.isTuple()) {
    for (const c10::IValue& element : value.toTupleRef().elements()) append(element);
  } else {
    for (const c10::IValue& element : value.toListRef()) append(element);
  }
  return text + (value.isTuple() ? ")" : "]");
}

}  // namespace autosp
