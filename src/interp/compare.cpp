#include <autosp/interp/compare.h>

#include "collectives.h"
#include "execution_error.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/view_as_real.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <sstream>
#include <utility>

namespace autosp {
namespace {

using interp::Factor;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// A gradient smaller than this share of the largest one is measured against that share; see CompareOptions.
constexpr double kGradientFloor = 1e-3;

// Numbers become tensors without dims; nothing for what cannot be compared.
std::optional<at::Tensor> AsTensor(const c10::IValue& value) {
  if (value.isTensor()) return value.toTensor().detach();
  if (value.isScalar()) return at::scalar_tensor(value.toScalar(), at::TensorOptions().dtype(c10::kDouble));
  return std::nullopt;
}

// Real and imaginary parts of complex numbers stand side by side.
at::Tensor AsDoubles(const at::Tensor& tensor) {
  return (tensor.is_complex() ? at::view_as_real(tensor.resolve_conj()) : tensor).to(c10::kDouble);
}

double LargestOf(const at::Tensor& tensor) {
  if (tensor.numel() == 0) return 0;
  const at::Tensor magnitudes = AsDoubles(tensor).abs();
  return at::where(magnitudes.isfinite(), magnitudes, at::zeros_like(magnitudes)).max().item<double>();
}

// Equal infinities are equal (masked scores); a NaN equals nothing, itself included.
double Distance(const at::Tensor& want, const at::Tensor& have, bool nan_equals_nan) {
  if (want.sizes() != have.sizes() || want.is_complex() != have.is_complex()) return kInfinity;
  if (want.numel() == 0) return 0;
  const at::Tensor a = AsDoubles(want), b = AsDoubles(have);
  at::Tensor equal = a.eq(b);
  if (nan_equals_nan) equal = equal.logical_or(a.isnan().logical_and(b.isnan()));
  const double distance = at::where(equal, at::zeros_like(a), a.sub(b).abs()).max().item<double>();
  return std::isnan(distance) ? kInfinity : distance;
}

double RelativeDistance(const at::Tensor& want, const at::Tensor& have, double floor, bool nan_equals_nan = false) {
  const double distance = Distance(want, have, nan_equals_nan);
  if (distance == 0 || distance == kInfinity) return distance;
  return distance / std::max({LargestOf(want), floor, std::numeric_limits<double>::min()});
}

ComparedValue CompareTensors(std::string what, const at::Tensor& want, const at::Tensor& have, bool nan_equals_nan,
                             double floor = 0) {
  ComparedValue compared{std::move(what), RelativeDistance(want, have, floor, nan_equals_nan), ""};
  if (want.sizes() != have.sizes()) {
    compared.detail = "wanted " + DescribeValue(want) + ", got " + DescribeValue(have);
  } else if (compared.error == kInfinity) {
    compared.detail = AsDoubles(want).isnan().any().item<bool>() ? "the whole graph gives NaN"
                                                                 : "NaN, or infinite where the other is not";
  }
  return compared;
}

enum class Spread : std::uint8_t { kReplicated, kSharded, kPartial };

// How one output lies over the ranks, with sizes put in.
struct Placement {
  Spread spread = Spread::kReplicated;
  Factor factor;
  const char* reduce = "sum";
};

// The one dim in which the shapes differ; nothing when there are several or none.
std::optional<std::size_t> DifferingDim(at::IntArrayRef whole, at::IntArrayRef local) {
  if (whole.size() != local.size()) return std::nullopt;
  std::optional<std::size_t> found;
  for (std::size_t dim = 0; dim < whole.size(); ++dim) {
    if (whole[dim] == local[dim]) continue;
    if (found) return std::nullopt;
    found = dim;
  }
  return found;
}

// The dim of which `local` is a shard as a whole.
std::optional<Factor> ShardedDim(at::IntArrayRef whole, at::IntArrayRef local, int ranks) {
  const auto dim = DifferingDim(whole, local);
  if (!dim) return std::nullopt;
  const Factor factor{static_cast<std::int64_t>(*dim), 1, whole[*dim], 1};
  return local[*dim] == factor.LocalLength(ranks) ? std::optional(factor) : std::nullopt;
}

// Every factor inside dim `dim` whose shard would have the size `local`.
std::vector<Factor> PossibleFactors(std::int64_t dim, std::int64_t whole, std::int64_t local, int ranks) {
  std::vector<Factor> factors;
  for (std::int64_t major = 1; major < whole; ++major) {
    if (whole % major != 0) continue;
    for (std::int64_t minor = 1; minor * major < whole; ++minor) {
      const Factor factor{dim, major, whole / major / minor, minor};
      if (whole % (major * minor) == 0 && local == major * factor.LocalLength(ranks) * minor) factors.push_back(factor);
    }
  }
  return factors;
}

class Comparer {
 public:
  Comparer(const SpmdResult& whole, const SpmdResult& parts, const CompareOptions& options)
      : whole_(whole), parts_(parts), options_(options) {
    result_.tolerance = options.tolerance;
  }

  Expected<Comparison> Run() {
    const std::size_t count = whole_.outputs.front().size();
    if (parts_.outputs.front().size() != count) {
      result_.values.push_back(
          {"number of outputs", kInfinity,
           "wanted " + std::to_string(count) + ", got " + std::to_string(parts_.outputs.front().size())});
      return result_;
    }
    for (std::size_t i = 0; i < count; ++i) AUTOSP_RETURN_IF_ERROR(CompareOutput(i));
    return result_;
  }

 private:
  std::vector<at::Tensor> OnRanks(std::size_t index) const {
    std::vector<at::Tensor> tensors;
    for (const auto& outputs : parts_.outputs) {
      if (const auto tensor = AsTensor(outputs[index])) tensors.push_back(*tensor);
    }
    return tensors;
  }

  Expected<Placement> PlacementOf(std::size_t index, const at::Tensor& want, const at::Tensor& have) const {
    Placement placement;
    if (index < options_.output_layouts.size() && !options_.output_layouts[index].is_unset()) {
      const Layout& layout = options_.output_layouts[index];
      if (layout.is_partial()) return Placement{Spread::kPartial, {}, ToString(layout.reduce)};
      if (layout.is_replicated()) return placement;
      const auto major = layout.major.Evaluate(parts_.symbols), length = layout.length.Evaluate(parts_.symbols),
                 minor = layout.minor.Evaluate(parts_.symbols);
      if (!major || !length || !minor) {
        return Diagnostic{DiagnosticCode::kExecution,
                          "the layout " + layout.ToString() + " given for output " + std::to_string(index) +
                              " names a size that the inputs do not fix",
                          {},
                          {},
                          {},
                          {}};
      }
      return Placement{Spread::kSharded, {layout.dim, *major, *length, *minor}, "sum"};
    }
    if (const auto factor = ShardedDim(want.sizes(), have.sizes(), parts_.ranks)) {
      placement.spread = Spread::kSharded;
      placement.factor = *factor;
    }
    return placement;
  }

  Status CompareOutput(std::size_t index) {
    const std::string name = "output " + std::to_string(index);
    const c10::IValue& whole_value = whole_.outputs.front()[index];
    const std::optional<at::Tensor> want = AsTensor(whole_value);
    const std::vector<at::Tensor> have = OnRanks(index);
    if (!want || have.size() != parts_.outputs.size()) {
      const bool both_none = whole_value.isNone() && parts_.outputs.front()[index].isNone();
      if (!both_none) result_.values.push_back({name, kInfinity, "only tensors and numbers can be compared"});
      return Status::Ok();
    }
    AUTOSP_ASSIGN_OR_RETURN(const Placement placement, PlacementOf(index, *want, have.front()));
    if (placement.spread == Spread::kReplicated) {
      for (std::size_t rank = 0; rank < have.size(); ++rank) {
        result_.values.push_back(
            CompareTensors(name + " on rank " + std::to_string(rank), *want, have[rank], options_.nan_equals_nan));
      }
    } else {
      const at::Tensor together = placement.spread == Spread::kSharded ? Gather(have, placement.factor)
                                                                       : interp::Reduce(have, placement.reduce);
      result_.values.push_back(
          CompareTensors(name + (placement.spread == Spread::kSharded ? ", shards together" : ", terms together"),
                         *want, together, options_.nan_equals_nan));
    }
    const bool same_shape = result_.values.back().detail.empty() || result_.values.back().error != kInfinity;
    const bool has_gradient = whole_value.isTensor() && whole_value.toTensor().requires_grad();
    if (!options_.gradients || !has_gradient || !same_shape) return Status::Ok();
    return CompareGradients(static_cast<int>(index), *want, placement);
  }

  // Random weights for an output with several elements: ones would not notice elements that changed places.
  static at::Tensor Cotangent(int index, const at::Tensor& output) {
    const at::TensorOptions options = output.options().requires_grad(false);
    if (output.numel() == 1) return at::ones(output.sizes(), options);
    return at::randn(output.sizes(), at::detail::createCPUGenerator(static_cast<std::uint64_t>(index) + 1),
                     at::TensorOptions().dtype(c10::kDouble))
        .to(options);
  }

  Status CompareGradients(int index, const at::Tensor& output, const Placement& placement) {
    const at::Tensor cotangent = Cotangent(index, output);
    std::vector<at::Tensor> cotangents;
    for (int rank = 0; rank < parts_.ranks; ++rank) {
      if (placement.spread == Spread::kSharded) {
        const at::Tensor slice = ShardSlice(cotangent, placement.factor, rank, parts_.ranks);
        cotangents.push_back(MaskPadding(slice, placement.factor, 0, rank, parts_.ranks));
      } else {
        cotangents.push_back(cotangent);
      }
    }
    AUTOSP_ASSIGN_OR_RETURN(const auto want, SpmdRankGradients(whole_, index, {cotangent}));
    AUTOSP_ASSIGN_OR_RETURN(const auto have, SpmdRankGradients(parts_, index, cotangents));
    double largest = 0;
    for (const auto& [name, gradient] : want.front()) largest = std::max(largest, LargestOf(gradient));
    for (const auto& [name, gradient] : want.front()) {
      const std::string what = "gradient of output " + std::to_string(index) + " for %" + name;
      if (!have.front().contains(name)) {
        result_.values.push_back({what, kInfinity, "the partitioned graph has no such floating input"});
        continue;
      }
      at::Tensor total = have.front().at(name);
      for (std::size_t rank = 1; rank < have.size(); ++rank) total = total.add(have[rank].at(name));
      // Each rank of a replicated output brings the whole objective; the ranks of a sharded one bring its parts.
      if (placement.spread == Spread::kReplicated) total = total.div(parts_.ranks);
      result_.values.push_back(CompareTensors(what, gradient, total, options_.nan_equals_nan,
                                              std::max(kGradientFloor * largest, options_.smallest_gradient)));
    }
    return Status::Ok();
  }

  const SpmdResult& whole_;
  const SpmdResult& parts_;
  const CompareOptions& options_;
  Comparison result_;
};

// Whether the values of one name can be explained as the whole value, a shard of it or a term of it.
bool IsExplained(const at::Tensor& want, const std::vector<at::Tensor>& have, double tolerance) {
  const bool same_shape = have.front().sizes() == want.sizes();
  if (same_shape) {
    const auto is_same = [&](const at::Tensor& tensor) { return RelativeDistance(want, tensor, 0) <= tolerance; };
    if (std::all_of(have.begin(), have.end(), is_same)) return true;
    // A term of a sum, maximum or minimum that has still to be reduced.
    for (const char* reduce : {"sum", "max", "min"}) {
      if (std::string_view(reduce) == "sum" && !want.is_floating_point() && want.scalar_type() == c10::kBool) continue;
      if (RelativeDistance(want, interp::Reduce(have, reduce), 0) <= tolerance) return true;
    }
    return false;
  }
  const auto dim = DifferingDim(want.sizes(), have.front().sizes());
  // Shapes that no sharding explains belong to another computation of the same name: they say nothing.
  if (!dim) return true;
  const std::vector<Factor> factors = PossibleFactors(static_cast<std::int64_t>(*dim), want.sizes()[*dim],
                                                      have.front().sizes()[*dim], static_cast<int>(have.size()));
  return factors.empty() || std::any_of(factors.begin(), factors.end(), [&](const Factor& factor) {
           return RelativeDistance(want, Gather(have, factor), 0) <= tolerance;
         });
}

std::string FindFirstSuspect(const Graph& partitioned, const SpmdResult& whole, const SpmdResult& parts,
                             double tolerance) {
  for (const auto& node : partitioned.nodes()) {
    const auto want = whole.values.find(node->name);
    const auto have = parts.values.find(node->name);
    if (!node->is_call() || want == whole.values.end() || have == parts.values.end()) continue;
    if (!want->second.front().isTensor()) continue;
    std::vector<at::Tensor> tensors;
    for (const c10::IValue& value : have->second) {
      if (value.isTensor()) tensors.push_back(value.toTensor().detach());
    }
    if (tensors.size() != have->second.size()) continue;
    if (!IsExplained(want->second.front().toTensor().detach(), tensors, tolerance))
      return "%" + node->name + " = " + node->op;
  }
  return "";
}

}  // namespace

bool Comparison::equal() const {
  return std::all_of(values.begin(), values.end(), [this](const ComparedValue& v) { return v.error <= tolerance; });
}

double Comparison::worst_output() const {
  double worst = 0;
  for (const ComparedValue& value : values) {
    if (!value.what.starts_with("gradient")) worst = std::max(worst, value.error);
  }
  return worst;
}

double Comparison::worst_gradient() const {
  double worst = 0;
  for (const ComparedValue& value : values) {
    if (value.what.starts_with("gradient")) worst = std::max(worst, value.error);
  }
  return worst;
}

std::string Comparison::ToString() const {
  std::ostringstream out;
  if (equal()) {
    out << "equal: " << values.size() << " tensors, worst output " << worst_output() << ", worst gradient "
        << worst_gradient() << " (tolerance " << tolerance << ", relative)\n";
    return out.str();
  }
  std::vector<ComparedValue> wrong;
  for (const ComparedValue& value : values) {
    if (!(value.error <= tolerance)) wrong.push_back(value);
  }
  std::stable_sort(wrong.begin(), wrong.end(), [](const auto& a, const auto& b) { return a.error > b.error; });
  out << "different: " << wrong.size() << " of " << values.size() << " tensors (tolerance " << tolerance
      << ", relative)\n";
  for (const ComparedValue& value : wrong) {
    out << "  " << value.what << ": " << value.error << (value.detail.empty() ? "" : ", " + value.detail) << '\n';
  }
  if (!first_suspect.empty()) out << "  first value that differs: " << first_suspect << '\n';
  return out.str();
}

Expected<Comparison> CompareWithWhole(const Graph& whole, const Graph& partitioned, int ranks, const SpmdInputs& inputs,
                                      const CompareOptions& options) {
  AUTOSP_ASSIGN_OR_RETURN(const SpmdResult want, SpmdInterpreter(whole, 1, options.spmd).Run(inputs));
  AUTOSP_ASSIGN_OR_RETURN(const SpmdResult have, SpmdInterpreter(partitioned, ranks, options.spmd).Run(inputs));
  try {
    AUTOSP_ASSIGN_OR_RETURN(Comparison comparison, Comparer(want, have, options).Run());
    if (!comparison.equal()) comparison.first_suspect = FindFirstSuspect(partitioned, want, have, options.tolerance);
    return comparison;
  } catch (...) {
    return Diagnostic{DiagnosticCode::kExecution,
                      "the results cannot be compared: " + interp::CurrentExceptionText(),
                      {},
                      {},
                      {},
                      {}};
  }
}

}  // namespace autosp
