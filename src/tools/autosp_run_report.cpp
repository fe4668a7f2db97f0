#include "autosp_run_report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <sstream>

namespace autosp {
namespace {

// What one output is on one rank.
struct Summary {
  std::string type;
  bool has_numbers = false;
  double mean = 0, min = 0, max = 0;
  std::vector<double> values;  // All of them when they are few.
};

Summary Summarize(const c10::IValue& value) {
  constexpr std::int64_t kFew = 16;
  Summary summary;
  if (!value.isTensor()) {
    summary.type = DescribeValue(value);
    summary.has_numbers = value.isInt() || value.isDouble();
    if (summary.has_numbers) summary.mean = value.isInt() ? static_cast<double>(value.toInt()) : value.toDouble();
    summary.min = summary.max = summary.mean;
    if (summary.has_numbers) summary.values = {summary.mean};
    return summary;
  }
  summary.type = DescribeValue(value);
  const at::Tensor numbers = value.toTensor().detach().to(c10::kDouble).contiguous();
  if (numbers.numel() == 0) return summary;
  summary.has_numbers = true;
  summary.mean = numbers.mean().item<double>();
  summary.min = numbers.min().item<double>();
  summary.max = numbers.max().item<double>();
  if (numbers.numel() <= kFew) {
    summary.values.assign(numbers.const_data_ptr<double>(), numbers.const_data_ptr<double>() + numbers.numel());
  }
  return summary;
}

std::string Number(double value, int digits) {
  char text[40];
  std::snprintf(text, sizeof(text), "%.*g", digits, value);
  return text;
}

std::string JsonNumber(double value) {
  return std::isfinite(value) ? Number(value, 17) : "\"" + Number(value, 6) + "\"";
}

std::string JsonString(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      result += std::string("\\") + c;
    } else if (c == '\n') {
      result += "\\n";
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof(escaped), "\\u%04x", static_cast<unsigned>(c));
      result += escaped;
    } else {
      result += c;
    }
  }
  return result + "\"";
}

template <typename Items, typename F>
std::string JsonList(const Items& items, const F& text_of) {
  std::string result = "[";
  for (const auto& item : items) result += (result.size() > 1 ? ", " : "") + text_of(item);
  return result + "]";
}

using Row = std::vector<std::string>;

std::string Table(const std::vector<Row>& rows) {
  std::vector<std::size_t> widths;
  for (const Row& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const Row& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += row[i] + std::string(widths[i] - row[i].size() + 2, ' ');
    }
    text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return text;
}

std::string StepTable(const std::vector<TrainedStep>& steps) {
  const bool checked = !steps.empty() && steps.front().whole_loss.has_value();
  std::vector<Row> rows = {checked ? Row{"step", "loss", "whole graph", "difference"} : Row{"step", "loss"}};
  for (std::size_t i = 0; i < steps.size(); ++i) {
    rows.push_back({std::to_string(i + 1), Number(steps[i].loss, 12)});
    if (!checked) continue;
    rows.back().push_back(Number(*steps[i].whole_loss, 12));
    rows.back().push_back(Number(std::fabs(steps[i].loss - *steps[i].whole_loss), 3));
  }
  return Table(rows);
}

std::string JsonComparison(const Comparison& comparison) {
  return "{\"equal\": " + std::string(comparison.equal() ? "true" : "false") +
         ", \"tolerance\": " + JsonNumber(comparison.tolerance) +
         ", \"worst_output\": " + JsonNumber(comparison.worst_output()) +
         ", \"worst_gradient\": " + JsonNumber(comparison.worst_gradient()) +
         ", \"first_suspect\": " + JsonString(comparison.first_suspect) + ", \"values\": " +
         JsonList(comparison.values,
                  [](const ComparedValue& value) {
                    return "{\"what\": " + JsonString(value.what) + ", \"error\": " + JsonNumber(value.error) +
                           ", \"detail\": " + JsonString(value.detail) + "}";
                  }) +
         "}";
}

}  // namespace

std::string ToTables(const RunReport& report) {
  std::ostringstream out;
  out << "@" << report.graph << " on " << report.ranks << (report.ranks == 1 ? " rank" : " simulated ranks");
  for (const auto& [name, size] : report.symbols)
    out << (name == report.symbols.begin()->first ? ", " : " ") << name << "=" << size;
  out << "\n";
  std::vector<Row> rows = {{"output", "rank", "type", "mean", "min", "max"}};
  const std::size_t count = report.outputs.empty() ? 0 : report.outputs.front().size();
  for (std::size_t output = 0; output < count; ++output) {
    for (std::size_t rank = 0; rank < report.outputs.size(); ++rank) {
      const Summary summary = Summarize(report.outputs[rank][output]);
      rows.push_back({std::to_string(output), std::to_string(rank), summary.type});
      if (!summary.has_numbers) continue;
      for (const double number : {summary.mean, summary.min, summary.max}) rows.back().push_back(Number(number, 10));
    }
  }
  out << Table(rows);
  if (!report.steps.empty()) out << "\n" << StepTable(report.steps);
  if (report.comparison) out << "\n" << report.comparison->ToString();
  return out.str();
}

std::string ToJson(const RunReport& report) {
  std::vector<std::string> outputs;
  for (std::size_t rank = 0; rank < report.outputs.size(); ++rank) {
    for (std::size_t output = 0; output < report.outputs[rank].size(); ++output) {
      const Summary summary = Summarize(report.outputs[rank][output]);
      std::string text = "{\"output\": " + std::to_string(output) + ", \"rank\": " + std::to_string(rank) +
                         ", \"type\": " + JsonString(summary.type);
      if (summary.has_numbers) {
        text += ", \"mean\": " + JsonNumber(summary.mean) + ", \"min\": " + JsonNumber(summary.min) +
                ", \"max\": " + JsonNumber(summary.max);
      }
      if (!summary.values.empty()) text += ", \"values\": " + JsonList(summary.values, JsonNumber);
      outputs.push_back(text + "}");
    }
  }
  std::string symbols;
  for (const auto& [name, size] : report.symbols) {
    symbols += (symbols.empty() ? "" : ", ") + JsonString(name) + ": " + std::to_string(size);
  }
  std::string text = "{\"graph\": " + JsonString(report.graph) + ", \"ranks\": " + std::to_string(report.ranks) +
                     ", \"symbols\": {" + symbols +
                     "}, \"outputs\": " + JsonList(outputs, [](const std::string& item) { return item; });
  if (!report.steps.empty()) {
    text += ", \"steps\": " + JsonList(report.steps, [](const TrainedStep& step) {
              return "{\"loss\": " + JsonNumber(step.loss) +
                     (step.whole_loss ? ", \"whole_loss\": " + JsonNumber(*step.whole_loss) : std::string()) + "}";
            });
  }
  if (report.comparison) text += ", \"check\": " + JsonComparison(*report.comparison);
  return text + ", \"equal\": " + (report.equal ? "true" : "false") + "}\n";
}

std::string ToJson(const Status& status) {
  return "{\"diagnostics\": " +
         JsonList(status.diagnostics(),
                  [](const Diagnostic& diagnostic) {
                    return "{\"code\": " + JsonString(CodeName(diagnostic.code)) +
                           ", \"message\": " + JsonString(diagnostic.message) +
                           ", \"text\": " + JsonString(diagnostic.ToString()) + "}";
                  }) +
         "}\n";
}

}  // namespace autosp
