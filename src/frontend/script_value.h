#pragma once

#include <autosp/ir/graph.h>

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace autosp::frontend {

// What is known of one value of the TorchScript program while it is imported.
struct ScriptValue {
  enum class Kind : std::uint8_t {
    kConstant,  // number, truth value, string, None, device: the same at every length
    kInt,       // an integer that depends on the length
    kTensor,
    kSequence,  // list or tuple
    kObject     // a module, or another object that holds attributes
  };

  Kind kind = Kind::kConstant;
  c10::IValue constant;               // kConstant, kObject
  Dim number;                         // kInt
  Node* node = nullptr;               // kTensor
  std::vector<at::Tensor> probes;     // kTensor: without data, one per probed length
  std::vector<ScriptValue> elements;  // kSequence
  bool is_list = false;               // kSequence
  std::string path;                   // kObject: "layers.0"

  static ScriptValue Constant(c10::IValue value) {
    ScriptValue result;
    result.constant = std::move(value);
    return result;
  }
  static ScriptValue Int(const Dim& dim) {
    if (const auto number = dim.constant()) return Constant(*number);
    ScriptValue result;
    result.kind = Kind::kInt;
    result.number = dim;
    return result;
  }
  static ScriptValue Sequence(std::vector<ScriptValue> elements, bool is_list) {
    ScriptValue result;
    result.kind = Kind::kSequence;
    result.elements = std::move(elements);
    result.is_list = is_list;
    return result;
  }
  static ScriptValue Tensor(Node* node, std::vector<at::Tensor> probes) {
    ScriptValue result;
    result.kind = Kind::kTensor;
    result.node = node;
    result.probes = std::move(probes);
    return result;
  }
  // Lists and tuples of constants become sequences, so that there is one form of each value.
  static ScriptValue FromIValue(const c10::IValue& value) {
    if (!value.isTuple() && !value.isList()) return Constant(value);
    std::vector<ScriptValue> elements;
    if (value.isTuple()) {
      for (const c10::IValue& element : value.toTupleRef().elements()) elements.push_back(FromIValue(element));
    } else {
      for (const c10::IValue& element : value.toListRef()) elements.push_back(FromIValue(element));
    }
    return Sequence(std::move(elements), value.isList());
  }

  bool is_tensor() const { return kind == Kind::kTensor; }
  bool is_none() const { return kind == Kind::kConstant && constant.isNone(); }
  bool is_integer() const { return kind == Kind::kInt || (kind == Kind::kConstant && constant.isInt()); }
  Dim dim() const { return kind == Kind::kInt ? number : Dim(constant.toInt()); }  // of an integer
  // No tensor and nothing that depends on the length, inside of it either.
  bool is_constant() const {
    if (kind == Kind::kConstant) return true;
    if (kind != Kind::kSequence) return false;
    for (const ScriptValue& element : elements) {
      if (!element.is_constant()) return false;
    }
    return true;
  }
  bool holds_tensor() const {
    if (kind == Kind::kTensor) return true;
    for (const ScriptValue& element : elements) {
      if (element.holds_tensor()) return true;
    }
    return false;
  }
};

}  // namespace autosp::frontend
