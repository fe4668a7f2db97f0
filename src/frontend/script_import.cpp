// The importer is an interpreter of the TorchScript program whose values are of one kind each: constants, integers in
// the length s0, and tensors of the graph that is made. Branches on constants are taken; what is left of a branch on
// anything else is refused.
#include <autosp/frontend/torchscript.h>

#include "op_probe.h"
#include "scalar_ops.h"
#include "source_lines.h"
#include "torch_constants.h"

#include <autosp/ir/requires_grad.h>
#include <autosp/ir/sym_builder.h>
#include <autosp/ir/tag_input.h>

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/jit_type.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/inliner.h>

#include <algorithm>
#include <limits>
#include <unordered_map>
#include <utility>

namespace autosp {
namespace frontend {
namespace {

using torch::jit::Block;
using JitNode = torch::jit::Node;
using JitValue = torch::jit::Value;

constexpr std::int64_t kEnd = std::numeric_limits<std::int64_t>::max();
constexpr int kMostTurns = 100'000;

// Thrown inside this file only.
struct Refused {
  Diagnostic diagnostic;
};

std::optional<std::int64_t> ExampleLength(const torch::jit::Graph& graph, const ScriptImportOptions& options) {
  for (std::size_t i = 0; i < options.examples.size() && i + 1 < graph.inputs().size(); ++i) {
    const auto tag = options.sequence_dims.find(graph.inputs()[i + 1]->debugNameBase());
    if (tag == options.sequence_dims.end() || !options.examples[i].isTensor()) continue;
    const at::Tensor& example = options.examples[i].toTensor();
    const std::int64_t dim = tag->second < 0 ? tag->second + example.dim() : tag->second;
    if (dim >= 0 && dim < example.dim()) return example.size(dim);
  }
  return std::nullopt;
}

class Importer {
 public:
  Importer(const torch::jit::Module& module, const ScriptImportOptions& options,
           std::shared_ptr<torch::jit::Graph> program)
      : module_(module),
        options_(options),
        program_(std::move(program)),
        probes_(ExampleLength(*program_, options)),
        sizes_(result_.graph) {}

  Expected<ScriptGraph> Run() {
    try {
      ImportArguments();
      RunBlock(*program_->block());
      ImportOutput(ValueOf(program_->block()->outputs()[0]));
    } catch (Refused& refused) {
      return std::move(refused.diagnostic);
    } catch (const std::exception& error) {
      const std::string text = error.what();
      return Diagnostic{DiagnosticCode::kCaptureFailed,
                        "the TorchScript program could not be imported",
                        {},
                        "",
                        {text.substr(0, text.find('\n'))}};
    }
    if (probes_.has_sequence()) {
      result_.graph.hints()[kLengthSymbol] = probes_.length(0);
      if (!probes_.is_longer(probes_.count() - 1)) result_.longest = probes_.length(0);
    }
    InferRequiresGrad(result_.graph);
    return std::move(result_);
  }

 private:
  [[noreturn]] void Refuse(DiagnosticCode code, const JitNode* node, std::string message, std::string note = "",
                           std::string hint = "") const {
    Diagnostic diagnostic{code, std::move(message)};
    if (node != nullptr) diagnostic.location = ProvenanceOf(*node).location;
    if (!note.empty()) diagnostic.notes.push_back(std::move(note));
    diagnostic.hint = std::move(hint);
    throw Refused{std::move(diagnostic)};
  }

  const ScriptValue& ValueOf(const JitValue* value) const { return values_.at(value); }

  // --- inputs

  void ImportArguments() {
    const auto arguments = program_->inputs();
    ScriptValue self;
    self.kind = ScriptValue::Kind::kObject;
    self.constant = module_._ivalue();
    values_[arguments[0]] = std::move(self);
    result_.arguments = static_cast<std::int64_t>(arguments.size()) - 1;
    if (options_.examples.size() + 1 != arguments.size()) {
      Refuse(DiagnosticCode::kUnsupportedArgument, nullptr,
             options_.method + " takes " + std::to_string(result_.arguments) + " arguments, but " +
                 std::to_string(options_.examples.size()) + " examples are given");
    }
    for (std::size_t i = 0; i < options_.examples.size(); ++i) {
      const std::string name = arguments[i + 1]->debugNameBase();
      values_[arguments[i + 1]] = ImportArgument(name, static_cast<int>(i), options_.examples[i]);
    }
    for (const auto& [name, dim] : options_.sequence_dims) {
      if (!tagged_.contains(name)) {
        Refuse(DiagnosticCode::kBadTag, nullptr, options_.method + " has no tensor argument \"" + name + "\" to tag");
      }
    }
  }

  ScriptValue ImportArgument(const std::string& name, int position, const c10::IValue& example) {
    if (!example.isTensor()) return ScriptValue::FromIValue(example);
    const at::Tensor& tensor = example.toTensor();
    std::optional<std::int64_t> tag;
    if (const auto found = options_.sequence_dims.find(name); found != options_.sequence_dims.end()) {
      tag = found->second < 0 ? found->second + tensor.dim() : found->second;
      tagged_.insert({name, true});
      if (*tag < 0 || *tag >= tensor.dim()) {
        Refuse(DiagnosticCode::kBadTag, nullptr,
               "input " + name + " is tagged with sequence dim " + std::to_string(found->second) + ", but it has " +
                   std::to_string(tensor.dim()) + " dims");
      }
      if (tensor.size(*tag) != probes_.length(0)) {
        Refuse(DiagnosticCode::kBadTag, nullptr,
               "the sequence of input " + name + " has length " + std::to_string(tensor.size(*tag)) +
                   ", that of another tagged input " + std::to_string(probes_.length(0)));
      }
    }
    std::vector<at::Tensor> probes;
    for (std::size_t probe = 0; probe < probes_.count(); ++probe) {
      std::vector<std::int64_t> shape = tensor.sizes().vec();
      if (tag) shape[static_cast<std::size_t>(*tag)] = probes_.length(probe);
      probes.push_back(at::empty(shape, tensor.options().device(c10::kMeta)));
    }
    const ScriptValue value = AddInput(name, tensor, std::move(probes), tensor.requires_grad());
    result_.inputs.push_back({value.node->name, position, "", false, {}});
    if (tag) value.node->seq_dim = *tag;
    return value;
  }

  ScriptValue AddInput(const std::string& name, const at::Tensor& tensor, std::vector<at::Tensor> probes, bool grad) {
    Type type = TypeOf(nullptr, probes);
    type.device = tensor.device().str();
    type.requires_grad = grad && IsFloating(type.dtype);
    return ScriptValue::Tensor(result_.graph.AddInput(name, std::move(type)), std::move(probes));
  }

  // A parameter or buffer. Two paths to the same memory are one input: its gradient is the sum of both.
  ScriptValue ImportAttribute(const JitNode& node, const std::string& path, const at::Tensor& tensor, bool parameter) {
    const auto same = [&](const ScriptInput& input) {
      return input.argument < 0 && input.value.is_alias_of(tensor) && input.value.numel() > 0;
    };
    const auto found = std::find_if(result_.inputs.begin(), result_.inputs.end(), same);
    if (found != result_.inputs.end()) {
      if (found->value.sizes() != tensor.sizes() || found->value.strides() != tensor.strides() ||
          found->value.storage_offset() != tensor.storage_offset()) {
        Refuse(DiagnosticCode::kUnsupportedArgument, &node,
               "the attributes " + found->path + " and " + path + " are different views of the same memory", "",
               "make one of them a view inside of forward");
      }
      return attributes_.at(found->name);
    }
    const at::Tensor meta = WithoutData(tensor.detach());
    const ScriptValue value =
        AddInput(path, tensor, std::vector<at::Tensor>(probes_.count(), meta), tensor.requires_grad());
    result_.inputs.push_back({value.node->name, -1, path, parameter, tensor});
    attributes_[value.node->name] = value;
    return value;
  }

  // --- programs

  void RunBlock(const Block& block) {
    for (const JitNode* node : block.nodes()) RunNode(*node);
  }

  void RunNode(const JitNode& node) {
    std::vector<ScriptValue> operands;
    for (const JitValue* input : node.inputs()) operands.push_back(ValueOf(input));
    const std::string kind = node.kind().toQualString();
    if (kind == "prim::Constant") return SetConstant(node);
    if (kind == "prim::GetAttr") return GetAttribute(node, operands[0]);
    if (kind == "prim::If") return RunIf(node, operands[0]);
    if (kind == "prim::Loop") return RunLoop(node, operands);
    if (kind == "prim::RaiseException")
      Refuse(DiagnosticCode::kCaptureFailed, &node, "the program raises an exception here");
    if (kind == "prim::Print" || kind == "aten::warn") return;
    if (RunSequenceOp(node, kind, operands) || RunQuery(node, kind, operands)) return;
    if (auto scalar = EvaluateScalar(kind, operands, probes_)) {
      if (!scalar->refusal.empty()) Refuse(DiagnosticCode::kUnsupportedSymbol, &node, scalar->refusal);
      return Set(node, scalar->value);
    }
    const bool any_tensor =
        std::any_of(operands.begin(), operands.end(), [](const auto& v) { return v.holds_tensor(); });
    const bool gives_tensor = std::any_of(node.outputs().begin(), node.outputs().end(), [](const JitValue* value) {
      return value->type()->isSubtypeOf(*c10::TensorType::get());
    });
    if (!any_tensor && !gives_tensor) return Fold(node, kind, operands);
    Call(node, kind, operands);
  }

  void Set(const JitNode& node, ScriptValue value) { values_[node.output()] = std::move(value); }

  void SetConstant(const JitNode& node) {
    const auto constant = torch::jit::toIValue(node.output());
    if (!constant) return Set(node, ScriptValue::Constant({}));  // A function; it has been inlined.
    if (constant->isTensor() && constant->toTensor().defined()) {
      const std::string path = "autosp_constants.c" + std::to_string(constants_++);
      return Set(node, ImportAttribute(node, path, constant->toTensor(), false));
    }
    Set(node, ScriptValue::FromIValue(*constant));
  }

  void GetAttribute(const JitNode& node, const ScriptValue& object) {
    const std::string name = node.s(torch::jit::attr::name);
    const auto self = object.constant.toObject();
    const c10::IValue attribute = self->getAttr(name);
    const std::string path = object.path.empty() ? name : object.path + "." + name;
    if (attribute.isTensor()) {
      const auto slot = self->type()->findAttributeSlot(name);
      return Set(node, ImportAttribute(node, path, attribute.toTensor(), slot && self->type()->is_parameter(*slot)));
    }
    ScriptValue value = ScriptValue::FromIValue(attribute);
    if (attribute.isObject()) {
      value.kind = ScriptValue::Kind::kObject;
      value.path = path;
    }
    Set(node, std::move(value));
  }

  void RunIf(const JitNode& node, const ScriptValue& condition) {
    if (condition.kind != ScriptValue::Kind::kConstant || !condition.constant.isBool()) {
      Refuse(DiagnosticCode::kUnsupportedArgument, &node, "a branch whose condition depends on data", "",
             "use torch.where, or make the condition a constant of the model");
    }
    const Block& taken = *node.blocks()[condition.constant.toBool() ? 0 : 1];
    RunBlock(taken);
    for (std::size_t i = 0; i < node.outputs().size(); ++i) {
      values_[node.outputs()[i]] = ScriptValue(ValueOf(taken.outputs()[i]));
    }
  }

  // A loop with a constant number of turns is straight-line code.
  void RunLoop(const JitNode& node, const std::vector<ScriptValue>& operands) {
    const Block& body = *node.blocks()[0];
    std::vector<ScriptValue> carried(operands.begin() + 2, operands.end());
    ScriptValue condition = operands[1];
    const auto running = [&] {
      if (condition.kind == ScriptValue::Kind::kConstant && condition.constant.isBool())
        return condition.constant.toBool();
      Refuse(DiagnosticCode::kUnsupportedArgument, &node, "a loop that ends when data says so");
    };
    if (!operands[0].is_constant()) {
      Refuse(DiagnosticCode::kUnsupportedArgument, &node,
             "a loop of " + operands[0].dim().ToString() + " turns: their number depends on the length", "",
             "write the loop over positions as tensor operations");
    }
    const std::int64_t turns = operands[0].constant.toInt();
    for (std::int64_t turn = 0; turn < turns && running(); ++turn) {
      if (turn == kMostTurns) Refuse(DiagnosticCode::kUnsupportedArgument, &node, "a loop of more than 100,000 turns");
      values_[body.inputs()[0]] = ScriptValue::Constant(turn);
      for (std::size_t i = 0; i < carried.size(); ++i) values_[body.inputs()[i + 1]] = carried[i];
      RunBlock(body);
      condition = ValueOf(body.outputs()[0]);
      for (std::size_t i = 0; i < carried.size(); ++i) carried[i] = ValueOf(body.outputs()[i + 1]);
    }
    for (std::size_t i = 0; i < carried.size(); ++i) values_[node.outputs()[i]] = carried[i];
  }

  // Lists and tuples.
  bool RunSequenceOp(const JitNode& node, const std::string& kind, const std::vector<ScriptValue>& operands) {
    if (kind == "prim::ListConstruct" || kind == "prim::TupleConstruct") {
      Set(node, ScriptValue::Sequence(operands, kind == "prim::ListConstruct"));
      return true;
    }
    if (kind == "prim::unchecked_cast" || kind == "aten::list" || kind == "prim::data") {
      if (kind == "prim::data") return false;
      Set(node, operands[0]);
      return true;
    }
    if (kind == "prim::Uninitialized") {
      Set(node, ScriptValue::Constant({}));
      return true;
    }
    const bool sequence = !operands.empty() && operands[0].kind == ScriptValue::Kind::kSequence;
    if (!sequence) return false;
    const std::vector<ScriptValue>& elements = operands[0].elements;
    if (kind == "prim::ListUnpack" || kind == "prim::TupleUnpack") {
      if (elements.size() != node.outputs().size()) {
        Refuse(DiagnosticCode::kUnsupportedArgument, &node,
               std::to_string(elements.size()) + " values are unpacked to " + std::to_string(node.outputs().size()));
      }
      for (std::size_t i = 0; i < elements.size(); ++i) values_[node.outputs()[i]] = elements[i];
      return true;
    }
    if (kind == "aten::len") {
      Set(node, ScriptValue::Constant(static_cast<std::int64_t>(elements.size())));
      return true;
    }
    if ((kind == "aten::__getitem__" || kind == "prim::TupleIndex") && operands[1].is_constant()) {
      const std::int64_t given = operands[1].constant.toInt(), size = static_cast<std::int64_t>(elements.size());
      const std::int64_t index = given < 0 ? given + size : given;
      if (index < 0 || index >= size) {
        Refuse(DiagnosticCode::kUnsupportedArgument, &node,
               "element " + std::to_string(given) + " of " + std::to_string(size) + " is taken");
      }
      Set(node, ScriptValue(elements[static_cast<std::size_t>(index)]));
      return true;
    }
    if (kind == "aten::append" || kind == "aten::extend" || kind == "aten::_set_item" || kind == "aten::insert") {
      Refuse(DiagnosticCode::kUnsupportedArgument, &node, "a list is changed in place", "", "make a new list");
    }
    return false;
  }

  // What a program asks of a tensor besides its elements.
  bool RunQuery(const JitNode& node, const std::string& kind, const std::vector<ScriptValue>& operands) {
    if (operands.empty() || !operands[0].is_tensor()) return false;
    const Type& type = operands[0].node->type;
    if (kind == "aten::size" && operands.size() == 1) {
      std::vector<ScriptValue> sizes;
      for (const Dim& dim : type.shape) sizes.push_back(ScriptValue::Int(dim));
      Set(node, ScriptValue::Sequence(std::move(sizes), true));
    } else if (kind == "aten::size" && operands[1].is_constant()) {
      const std::int64_t given = operands[1].constant.toInt(), index = given < 0 ? given + type.rank() : given;
      if (index < 0 || index >= type.rank()) {
        Refuse(
            DiagnosticCode::kUnsupportedArgument, &node,
            "dim " + std::to_string(given) + " of a tensor of " + std::to_string(type.rank()) + " dims is asked for");
      }
      Set(node, ScriptValue::Int(type.shape[static_cast<std::size_t>(index)]));
    } else if (kind == "aten::numel") {
      Set(node, ScriptValue::Int(Product(type.shape)));
    } else if (kind == "aten::dim") {
      Set(node, ScriptValue::Constant(static_cast<std::int64_t>(type.rank())));
    } else if (kind == "prim::device") {
      Set(node, ScriptValue::Constant(c10::Device(type.device)));
    } else if (kind == "prim::dtype") {
      Set(node, ScriptValue::Constant(static_cast<std::int64_t>(ToScalarType(type.dtype))));
    } else if (kind == "prim::is_cuda") {
      Set(node, ScriptValue::Constant(type.device.starts_with("cuda")));
    } else if (kind == "aten::item" || kind == "aten::Int" || kind == "aten::Float" || kind == "aten::Bool" ||
               kind == "aten::is_nonzero" || kind == "aten::IntImplicit" || kind == "aten::FloatImplicit") {
      Refuse(DiagnosticCode::kUnsupportedSymbol, &node,
             kind + " makes a number of the data of %" + operands[0].node->name);
    } else {
      return false;
    }
    return true;
  }

  // Constants in, constants out.
  void Fold(const JitNode& node, const std::string& kind, const std::vector<ScriptValue>& operands) {
    for (const ScriptValue& operand : operands) {
      if (!operand.is_constant()) {
        Refuse(DiagnosticCode::kUnsupportedArgument, &node,
               kind + " of a size that depends on the length cannot be imported");
      }
    }
    const ProbeResult result = RunAtProbe(node, operands, probes_, 0);
    if (!result.error.empty()) {
      Refuse(DiagnosticCode::kCaptureFailed, &node, kind + " cannot be imported", result.error);
    }
    for (std::size_t i = 0; i < node.outputs().size(); ++i) {
      values_[node.outputs()[i]] = ScriptValue::FromIValue(result.values[i]);
    }
  }

  // --- operators

  // The results at every probed length: [probe][result].
  std::vector<std::vector<c10::IValue>> Probe(const JitNode& node, const std::string& kind,
                                              const std::vector<ScriptValue>& operands) {
    std::vector<std::vector<c10::IValue>> results;
    for (std::size_t probe = 0; probe < probes_.count(); ++probe) {
      ProbeResult result = RunAtProbe(node, operands, probes_, probe);
      if (!result.error.empty() && probes_.is_longer(probe) && probe + 1 == probes_.count()) {
        const std::size_t before = probes_.count();
        probes_.ForgetLonger();
        if (probes_.count() < before) break;
      }
      if (!result.error.empty()) {
        Refuse(DiagnosticCode::kCaptureFailed, &node,
               kind + " fails" + (probes_.has_sequence() ? " at length " + std::to_string(probes_.length(probe)) : ""),
               result.error);
      }
      results.push_back(std::move(result.values));
    }
    return results;
  }

  void Call(const JitNode& node, const std::string& kind, std::vector<ScriptValue>& operands) {
    const c10::FunctionSchema* schema = node.maybeSchema();
    const auto handle =
        schema == nullptr
            ? std::nullopt
            : c10::Dispatcher::singleton().findSchema(c10::OperatorName(schema->name(), schema->overload_name()));
    if (!handle) {
      Refuse(DiagnosticCode::kUnsupportedArgument, &node,
             kind + (schema != nullptr && !schema->overload_name().empty() ? "." + schema->overload_name() : "") +
                 " is no operator of ATen and cannot be imported");
    }
    if (kind == "aten::slice" && IsWholeSlice(operands)) return Set(node, operands[0]);
    const auto results = Probe(node, kind, operands);
    std::string op = schema->name();
    op.replace(op.find("::"), 2, ".");
    if (!schema->overload_name().empty()) op += "." + schema->overload_name();
    Node* call = result_.graph.AddCall(NameOf(node), op, {}, Type::Of(Type::Kind::kNone));
    // After the node, so that sizes are computed before it.
    SetArguments(*call, handle->schema(), node, operands);
    call->provenance = ProvenanceOf(node);
    const std::string device = DeviceOf(handle->schema(), operands);
    SetResults(node, *call, results, device);
  }

  static std::string NameOf(const JitNode& node) {
    if (node.outputs().empty()) return "call";
    const std::string name = node.outputs()[0]->debugName();
    return std::isdigit(static_cast<unsigned char>(name[0])) != 0 ? "v" + name : name;
  }

  // x[:] of one dim is x.
  static bool IsWholeSlice(const std::vector<ScriptValue>& operands) {
    const auto is = [](const ScriptValue& value, std::int64_t number) {
      return value.is_none() || (value.is_integer() && value.dim() == Dim(number));
    };
    return operands.size() == 5 && is(operands[2], 0) && is(operands[3], kEnd) && is(operands[4], 1);
  }

  // As Python calls: defaults at the end are left out, what may only be named is named.
  void SetArguments(Node& call, const c10::FunctionSchema& schema, const JitNode& node,
                    std::vector<ScriptValue>& operands) {
    if (call.op == "aten.slice.Tensor") MakeSliceExplicit(operands);
    const auto& formals = schema.arguments();
    for (std::size_t i = 0; i < operands.size(); ++i) {
      if (formals[i].kwarg_only()) {
        if (!IsDefault(operands[i], formals[i])) {
          call.attributes.emplace_back(formals[i].name(), ToArgument(operands[i], formals[i].real_type(), node));
        }
      } else {
        call.args.push_back(ToArgument(operands[i], formals[i].real_type(), node));
      }
    }
    while (!call.args.empty() && IsDefault(operands[call.args.size() - 1], formals[call.args.size() - 1])) {
      call.args.pop_back();
    }
    // Python has no overload for a number here: it is a tensor to it.
    for (const char* name : {"add", "sub", "mul", "div", "add_", "sub_", "mul_", "div_"}) {
      if (call.op == "aten." + std::string(name) + ".Scalar") {
        call.op = "aten." + std::string(name) + ".Tensor";
        if (call.args.size() > 2) {
          call.attributes.emplace_back("alpha", call.args[2]);
          call.args.resize(2);
        }
      }
    }
  }

  static void MakeSliceExplicit(std::vector<ScriptValue>& operands) {
    if (operands[1].is_constant() && operands[1].constant.toInt() < 0) {
      operands[1] = ScriptValue::Constant(operands[1].constant.toInt() + operands[0].node->type.rank());
    }
    if (operands[2].is_none()) operands[2] = ScriptValue::Constant(std::int64_t{0});
    if (operands[3].is_none()) operands[3] = ScriptValue::Constant(kEnd);
  }

  static bool IsDefault(const ScriptValue& value, const c10::Argument& formal) {
    if (!formal.default_value() || !value.is_constant()) return false;
    const c10::IValue& wanted = *formal.default_value();
    if (value.kind == ScriptValue::Kind::kSequence) {
      if (!wanted.isIntList() || wanted.toIntVector().size() != value.elements.size()) return false;
      for (std::size_t i = 0; i < value.elements.size(); ++i) {
        const c10::IValue& element = value.elements[i].constant;
        if (!element.isInt() || element.toInt() != wanted.toIntVector()[i]) return false;
      }
      return true;
    }
    const c10::IValue& given = value.constant;
    if (given.isScalar() && wanted.isScalar()) {
      return given.isBool() == wanted.isBool() && given.toScalar().toDouble() == wanted.toScalar().toDouble();
    }
    if (given.isString() && wanted.isString()) return given.toStringRef() == wanted.toStringRef();
    return given.isNone() && wanted.isNone();
  }

  Argument ToArgument(const ScriptValue& value, const c10::TypePtr& type, const JitNode& node) {
    c10::TypePtr plain = type;
    if (const auto optional = plain->cast<c10::OptionalType>()) plain = optional->getElementType();
    switch (value.kind) {
      case ScriptValue::Kind::kTensor:
        return value.node;
      case ScriptValue::Kind::kInt: {
        auto argument = sizes_.Materialize(value.number);
        if (!argument.ok()) throw Refused{argument.status().diagnostics().front()};
        return *argument;
      }
      case ScriptValue::Kind::kSequence: {
        Argument::List items;
        const auto list = plain->cast<c10::ListType>();
        for (const ScriptValue& element : value.elements) {
          items.push_back(ToArgument(element, list ? list->getElementType() : plain, node));
        }
        return items;
      }
      case ScriptValue::Kind::kObject:
        break;
      case ScriptValue::Kind::kConstant:
        if (auto constant = ToConstant(value.constant, plain->kind())) return *constant;
    }
    Refuse(DiagnosticCode::kUnsupportedArgument, &node,
           "an argument of " + std::string(node.kind().toQualString()) + " is " + plain->str() +
               ", which cannot be imported");
  }

  static std::optional<Argument> ToConstant(const c10::IValue& value, c10::TypeKind kind) {
    if (value.isNone()) return Argument();
    if (value.isBool()) return Argument(value.toBool());
    if (value.isDouble()) return Argument(value.toDouble());
    if (value.isString()) return Argument(value.toStringRef());
    if (value.isDevice()) return Argument(Argument::Constant{"device", value.toDevice().str()});
    if (!value.isInt()) return std::nullopt;
    const std::int64_t number = value.toInt();
    if (kind == c10::TypeKind::ScalarTypeType) {
      const auto dtype = FromScalarType(static_cast<c10::ScalarType>(number));
      return dtype ? std::optional<Argument>(Argument::Dtype(*dtype)) : std::nullopt;
    }
    if (kind == c10::TypeKind::LayoutType || kind == c10::TypeKind::MemoryFormatType) {
      const bool layout = kind == c10::TypeKind::LayoutType;
      const auto name = layout ? LayoutName(number) : MemoryFormatName(number);
      if (!name) return std::nullopt;
      return Argument(Argument::Constant{layout ? "layout" : "memory_format", *name});
    }
    return Argument(number);
  }

  static std::string DeviceOf(const c10::FunctionSchema& schema, const std::vector<ScriptValue>& operands) {
    for (std::size_t i = 0; i < operands.size(); ++i) {
      const ScriptValue& value = operands[i];
      if (schema.arguments()[i].name() == "device" && value.constant.isDevice()) return value.constant.toDevice().str();
    }
    // A tensor without dims may lie on another device than the result.
    std::string device;
    const auto look = [&](const ScriptValue& value, const auto& self) -> void {
      if (value.is_tensor() && (device.empty() || value.node->type.rank() > 0)) {
        if (device.empty() || device == "cpu") device = value.node->type.device;
      }
      for (const ScriptValue& element : value.elements) self(element, self);
    };
    for (const ScriptValue& value : operands) look(value, look);
    return device.empty() ? "cpu" : device;
  }

  Type TypeOf(const JitNode* node, const std::vector<at::Tensor>& probes) {
    const auto dtype = FromScalarType(probes[0].scalar_type());
    if (!dtype) {
      Refuse(DiagnosticCode::kUnsupportedArgument, node,
             std::string("a tensor of dtype ") + c10::toString(probes[0].scalar_type()) + " cannot be imported");
    }
    std::vector<Dim> shape;
    for (std::int64_t dim = 0; dim < probes[0].dim(); ++dim) {
      std::vector<std::int64_t> sizes;
      for (const at::Tensor& tensor : probes) sizes.push_back(dim < tensor.dim() ? tensor.size(dim) : -1);
      sizes.resize(std::min(sizes.size(), probes_.count()));
      const auto fitted = probes_.Fit(sizes);
      if (!fitted) RefuseSize(node, dim, sizes);
      shape.push_back(*fitted);
    }
    return Type::Tensor(*dtype, std::move(shape));
  }

  [[noreturn]] void RefuseSize(const JitNode* node, std::int64_t dim, const std::vector<std::int64_t>& sizes) {
    std::string at_lengths;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      at_lengths += (i == 0 ? "" : ", ") + std::to_string(sizes[i]) + " at " + std::to_string(probes_.length(i));
    }
    Refuse(DiagnosticCode::kUnsupportedSymbol, node,
           "dim " + std::to_string(dim) + " has a size that is no known function of the length", at_lengths);
  }

  // One result of the node: a tensor, a list of tensors, or None.
  ScriptValue ResultOf(const JitNode& node, const std::vector<c10::IValue>& at_probes, const std::string& device,
                       Type& type) {
    if (at_probes[0].isTensor()) {
      std::vector<at::Tensor> tensors;
      for (const c10::IValue& value : at_probes) tensors.push_back(value.toTensor());
      type = TypeOf(&node, tensors);
      type.device = device;
      return ScriptValue::Tensor(nullptr, std::move(tensors));
    }
    if (at_probes[0].isTensorList()) {
      std::vector<ScriptValue> elements;
      const std::size_t count = at_probes[0].toTensorVector().size();
      type = Type::Tuple({});
      for (std::size_t i = 0; i < count; ++i) {
        std::vector<c10::IValue> one;
        for (const c10::IValue& value : at_probes) {
          const auto list = value.toTensorVector();
          if (list.size() != count) {
            Refuse(DiagnosticCode::kUnsupportedSymbol, &node, "the number of results depends on the length");
          }
          one.emplace_back(list[i]);
        }
        elements.push_back(ResultOf(node, one, device, type.elements.emplace_back()));
      }
      return ScriptValue::Sequence(std::move(elements), true);
    }
    Refuse(DiagnosticCode::kUnsupportedArgument, &node,
           std::string(node.kind().toQualString()) + " gives " + at_probes[0].tagKind() + ", which cannot be imported");
  }

  // Several results are one tuple, taken apart behind the call.
  void TakeApart(Node* tuple, ScriptValue& value) {
    for (std::size_t i = 0; i < value.elements.size(); ++i) {
      Node* item = result_.graph.AddCall(tuple->name + "_" + std::to_string(i), "builtin.getitem",
                                         {tuple, static_cast<std::int64_t>(i)}, tuple->type.elements[i]);
      item->provenance = tuple->provenance;
      value.elements[i].node = item;
    }
  }

  void SetResults(const JitNode& node, Node& call, const std::vector<std::vector<c10::IValue>>& results,
                  const std::string& device) {
    std::vector<ScriptValue> values;
    std::vector<Type> types;
    for (std::size_t i = 0; i < node.outputs().size(); ++i) {
      std::vector<c10::IValue> one;
      for (const auto& at_probe : results) one.push_back(at_probe[i]);
      values.push_back(ResultOf(node, one, device, types.emplace_back()));
    }
    if (values.empty()) return;
    if (values.size() == 1) {
      call.type = std::move(types[0]);
      if (values[0].kind == ScriptValue::Kind::kSequence) {
        TakeApart(&call, values[0]);
      } else {
        values[0].node = &call;
      }
      return Set(node, std::move(values[0]));
    }
    call.type = Type::Tuple(std::move(types));
    ScriptValue tuple = ScriptValue::Sequence(std::move(values), false);
    TakeApart(&call, tuple);
    for (std::size_t i = 0; i < tuple.elements.size(); ++i) values_[node.outputs()[i]] = tuple.elements[i];
  }

  void ImportOutput(const ScriptValue& value) {
    std::vector<ScriptValue> results = {value};
    if (value.kind == ScriptValue::Kind::kSequence) {
      results = value.elements;
      result_.returns_tuple = true;
    }
    std::vector<Argument> returned;
    for (const ScriptValue& result : results) {
      if (!result.is_tensor()) {
        Refuse(DiagnosticCode::kUnsupportedArgument, nullptr, options_.method + " returns something that is no tensor",
               "", "return the loss, or a tuple of tensors");
      }
      returned.emplace_back(result.node);
    }
    result_.graph.SetOutput(std::move(returned));
  }

  const torch::jit::Module& module_;
  const ScriptImportOptions& options_;
  const std::shared_ptr<torch::jit::Graph> program_;
  ScriptGraph result_;
  LengthProbes probes_;
  SymBuilder sizes_;
  int constants_ = 0;
  std::unordered_map<const JitValue*, ScriptValue> values_;  // Looked up only.
  std::map<std::string, ScriptValue> attributes_;            // By name of the input.
  std::map<std::string, bool> tagged_;
};

}  // namespace
}  // namespace frontend

Expected<ScriptGraph> ImportScript(const torch::jit::Module& module, const ScriptImportOptions& options) {
  const auto method = module.find_method(options.method);
  if (!method) {
    return Diagnostic{DiagnosticCode::kUnsupportedArgument, "the module has no method \"" + options.method + "\""};
  }
  const auto program = method->graph()->copy();
  torch::jit::Inline(*program);
  return frontend::Importer(module, options, program).Run();
}

}  // namespace autosp
