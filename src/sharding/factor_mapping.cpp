#include <autosp/sharding/factor_mapping.h>

#include <autosp/sharding/op_rules.h>

namespace autosp {

std::vector<Node**> OperandSlots(Node& node) {
  std::vector<Node**> slots;
  for (Argument& argument : node.args) {
    ForEachNode(argument, [&](Node*& value) { slots.push_back(&value); });
  }
  for (auto& [name, argument] : node.attributes) {
    ForEachNode(argument, [&](Node*& value) { slots.push_back(&value); });
  }
  return slots;
}

std::optional<FactorSharding> ProjectLayout(const Layout& layout, const DimFactors& dims,
                                            const std::vector<Factor>& factors) {
  if (!layout.is_sharded() || layout.dim < 0 || layout.dim >= static_cast<int>(dims.size())) return std::nullopt;
  const std::vector<int>& list = dims[layout.dim];
  for (std::size_t i = 0; i < list.size(); ++i) {
    Dim before = 1;
    Dim after = 1;
    for (std::size_t j = 0; j < i; ++j) before = before * factors[list[j]].size;
    for (std::size_t j = i + 1; j < list.size(); ++j) after = after * factors[list[j]].size;
    const std::optional<Dim> major = ExactDiv(layout.major, before);
    const std::optional<Dim> minor = ExactDiv(layout.minor, after);
    if (!major || !minor) continue;
    if (*major * layout.length * *minor == factors[list[i]].size) {
      if (factors[list[i]].ordered && !(major->is_one() && minor->is_one())) return std::nullopt;
      return FactorSharding{list[i], *major, layout.length, *minor};
    }
  }
  return std::nullopt;
}

Layout LayoutUnder(const FactorSharding& sharding, const DimFactors& dims, const std::vector<Factor>& factors) {
  for (std::size_t dim = 0; dim < dims.size(); ++dim) {
    Dim major = sharding.major;
    Dim minor = sharding.minor;
    bool found = false;
    for (const int factor : dims[dim]) {
      if (factor == sharding.factor) {
        found = true;
      } else if (found) {
        minor = minor * factors[factor].size;
      } else {
        major = major * factors[factor].size;
      }
    }
    if (found) return Layout::Sharded(static_cast<int>(dim), sharding.length, major, minor);
  }
  return Layout::Replicated();
}

}  // namespace autosp
