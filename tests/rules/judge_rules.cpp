// autosp_judge_rules SAMPLES RESULTS [--rules FILE] [--missed]: reads samples (a list of {"text", "inputs"} saved by
// torch.save), judges what the rule table claims about each, and writes one line of JSON per sample.
#include "rule_judge.h"

#include <torch/csrc/jit/serialization/pickle.h>

#include <ATen/Parallel.h>

#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>

namespace autosp::rules {
namespace {

// fmt would be the one that the torch wheel carries, which is not the one of the passes.
std::string Quoted(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += static_cast<unsigned char>(c) < 0x20 ? std::string(c == '\n' ? "\\n" : " ") : std::string(1, c);
  }
  return quoted + "\"";
}

std::string ToJson(const Judgement& judgement) {
  std::ostringstream out;
  out << std::boolalpha << "{\"error\": " << Quoted(judgement.error) << ", \"random\": " << judgement.random
      << ", \"conflicting\": " << judgement.conflicting << ", \"gradients\": " << judgement.gradients
      << ", \"placements\": " << judgement.placements << ", \"whole_placements\": " << judgement.whole_placements
      << ", \"claims\": [";
  const char* separator = "";
  for (const JudgedClaim& claim : judgement.claims) {
    constexpr const char* kNames[] = {"equal", "different", "failed", "refused"};
    out << separator << "{\"what\": " << Quoted(claim.what) << ", \"ranks\": " << claim.ranks
        << ", \"single\": " << claim.single << ", \"verdict\": \"" << kNames[static_cast<int>(claim.verdict.kind)]
        << "\", \"detail\": " << Quoted(claim.verdict.detail) << '}';
    separator = ", ";
  }
  out << "], \"missed\": [";
  separator = "";
  for (const MissedClaim& claim : judgement.missed) {
    out << separator << "{\"operand\": " << Quoted(claim.operand) << ", \"dim\": " << claim.dim
        << ", \"how\": " << Quoted(claim.how) << '}';
    separator = ", ";
  }
  out << "]}";
  return out.str();
}

std::vector<Sample> ReadSamples(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const c10::IValue loaded = torch::jit::pickle_load(bytes);
  std::vector<Sample> samples;
  for (const c10::IValue& entry : loaded.toListRef()) {
    const auto fields = entry.toGenericDict();
    Sample sample;
    sample.text = fields.at("text").toStringRef();
    for (const auto& input : fields.at("inputs").toGenericDict()) {
      sample.inputs[input.key().toStringRef()] = input.value();
    }
    samples.push_back(std::move(sample));
  }
  return samples;
}

std::string ReadText(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

int Main(const std::vector<std::string>& arguments) {
  std::vector<std::string> paths;
  std::string user_rules;
  bool find_missed = false;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--missed") {
      find_missed = true;
    } else if (arguments[i] == "--rules" && i + 1 < arguments.size()) {
      user_rules = arguments[++i];
    } else {
      paths.push_back(arguments[i]);
    }
  }
  if (paths.size() != 2) {
    std::cerr << "usage: autosp_judge_rules SAMPLES RESULTS [--rules FILE] [--missed]\n";
    return 2;
  }
  Expected<RuleTable> rules = RuleTable::BuiltIn();
  const Status status = !rules.ok()          ? rules.status()
                        : user_rules.empty() ? Status::Ok()
                                             : rules->AddText(ReadText(user_rules), user_rules);
  if (!status.ok()) {
    std::cerr << status.ToString();
    return 2;
  }
  at::set_num_threads(1);  // The samples are tiny.
  std::ofstream results(paths[1]);
  for (const Sample& sample : ReadSamples(paths[0])) {
    results << ToJson(Judge(sample, *rules, {2, 3, 4}, find_missed)) << std::endl;  // Kernels may crash.
  }
  results.close();
  return results.good() ? 0 : 2;
}

}  // namespace
}  // namespace autosp::rules

int main(int argc, char** argv) {
  try {
    return autosp::rules::Main({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 2;
  }
}
