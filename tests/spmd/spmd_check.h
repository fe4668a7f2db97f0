#pragma once

#include <autosp/interp/compare.h>
#include <autosp/interp/random_inputs.h>
#include <autosp/ir/parser.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <string>
#include <string_view>
#include <utility>

// EXPECT_TRUE(EqualsWhole(whole, partitioned, 4, {.inputs = {.sizes = {{"s0", 41}}}}));
// A graph may be given as text, in which every "$P" stands for the number of ranks.
namespace autosp::testing {

struct SpmdCheck {
  RandomInputOptions inputs = {};  // Inputs are made from the types of the whole graph...
  SpmdInputs given = {};           // ...except those that stand here.
  CompareOptions compare = {};     // Tolerance (f64: 1e-12), layouts of sharded outputs, gradients or not.
};

inline std::string WithRanks(std::string_view text, int ranks) {
  std::string result(text);
  for (std::size_t at = result.find("$P"); at != std::string::npos; at = result.find("$P", at)) {
    result.replace(at, 2, std::to_string(ranks));
  }
  return result;
}

inline Expected<Comparison> CompareGraphs(const Graph& whole, const Graph& partitioned, int ranks,
                                          const SpmdCheck& check = {}) {
  AUTOSP_ASSIGN_OR_RETURN(SpmdInputs inputs, MakeRandomInputs(whole, check.inputs));
  for (const auto& [name, value] : check.given) inputs[name] = value;
  return CompareWithWhole(whole, partitioned, ranks, inputs, check.compare);
}

inline Expected<Comparison> CompareTexts(std::string_view whole_text, std::string_view partitioned_text, int ranks,
                                         const SpmdCheck& check = {}) {
  AUTOSP_ASSIGN_OR_RETURN(const Graph whole, Parse(WithRanks(whole_text, ranks), "whole"));
  AUTOSP_ASSIGN_OR_RETURN(const Graph partitioned, Parse(WithRanks(partitioned_text, ranks), "partitioned"));
  return CompareGraphs(whole, partitioned, ranks, check);
}

inline ::testing::AssertionResult IsEqual(const Expected<Comparison>& comparison) {
  if (!comparison.ok()) return ::testing::AssertionFailure() << comparison.status().ToString();
  if (!comparison->equal()) return ::testing::AssertionFailure() << comparison->ToString();
  return ::testing::AssertionSuccess() << comparison->ToString();
}

inline ::testing::AssertionResult EqualsWhole(const Graph& whole, const Graph& partitioned, int ranks,
                                              const SpmdCheck& check = {}) {
  return IsEqual(CompareGraphs(whole, partitioned, ranks, check));
}
inline ::testing::AssertionResult EqualsWhole(std::string_view whole, const Graph& partitioned, int ranks,
                                              const SpmdCheck& check = {}) {
  const Expected<Graph> graph = Parse(WithRanks(whole, ranks), "whole");
  if (!graph.ok()) return ::testing::AssertionFailure() << graph.status().ToString();
  return EqualsWhole(*graph, partitioned, ranks, check);
}
inline ::testing::AssertionResult EqualsWhole(std::string_view whole, std::string_view partitioned, int ranks,
                                              const SpmdCheck& check = {}) {
  return IsEqual(CompareTexts(whole, partitioned, ranks, check));
}

// Both run, and their results are not equal: what a broken graph must give. A failure to run is not a difference.
inline ::testing::AssertionResult DiffersFromWhole(std::string_view whole, std::string_view partitioned, int ranks,
                                                   const SpmdCheck& check = {}) {
  const Expected<Comparison> comparison = CompareTexts(whole, partitioned, ranks, check);
  if (!comparison.ok()) return ::testing::AssertionFailure() << comparison.status().ToString();
  if (comparison->equal()) return ::testing::AssertionFailure() << comparison->ToString();
  return ::testing::AssertionSuccess() << comparison->ToString();
}

// `text` without the node %value; its readers read %instead.
inline std::string Without(std::string_view text, std::string_view value, std::string_view instead) {
  std::string result;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size() - 1) + 1;
    const std::string_view line = text.substr(begin, end - begin);
    if (line.find("%" + std::string(value) + " = ") == std::string_view::npos) result += line;
    begin = end;
  }
  const std::string name = "%" + std::string(value);
  for (std::size_t at = result.find(name); at != std::string::npos; at = result.find(name, at + 1)) {
    const std::size_t after = at + name.size();
    const bool is_whole_name = after == result.size() ||
                               (std::isalnum(static_cast<unsigned char>(result[after])) == 0 && result[after] != '_');
    if (is_whole_name) result.replace(at, name.size(), "%" + std::string(instead));
  }
  return result;
}

}  // namespace autosp::testing
