#include <autosp/pass/reproducer.h>

#include <autosp/pass/problem.h>

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace autosp {
namespace {

constexpr std::string_view kTitle = "// autosp reproducer, replay with: autosp-opt --run-reproducer FILE\n";

void AppendLines(std::string& text, std::string_view prefix, const std::string& lines) {
  std::istringstream stream(lines);
  for (std::string line; std::getline(stream, line);) text += fmt::format("// {}: {}\n", prefix, line);
}

std::uint64_t Fnv1a(std::string_view text) {
  std::uint64_t hash = 14695981039346656037ull;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return hash;
}

Diagnostic FileError(const std::string& path, const std::string& why) {
  return MakeProblem(DiagnosticCode::kFile, fmt::format("cannot write {}: {}", path, why));
}

}  // namespace

std::string Reproducer::ToText() const {
  std::string text(kTitle);
  text += fmt::format("// pipeline: {}\n// options: {}\n", pipeline, OptionsText(options));
  text += fmt::format("// verify_each: {}\n", verify_each);
  AppendLines(text, "rule", rules);
  AppendLines(text, "error", error);
  return text + graph;
}

Expected<Reproducer> ParseReproducer(std::string_view text, std::string_view source_name) {
  Reproducer result;
  result.graph = text;
  bool has_pipeline = false;
  std::istringstream stream{std::string(text)};
  for (std::string line; std::getline(stream, line) && line.starts_with("//");) {
    const std::size_t colon = line.find(": ");
    if (!line.starts_with("// ") || colon == std::string::npos) continue;
    const std::string key = line.substr(3, colon - 3);
    const std::string value = line.substr(colon + 2);
    if (key == "pipeline") {
      has_pipeline = true;
      result.pipeline = value;
    } else if (key == "options") {
      AUTOSP_RETURN_IF_ERROR(SetOptionsFromText(result.options, value));
    } else if (key == "verify_each") {
      result.verify_each = value != "false";
    } else if (key == "rule") {
      result.rules += value + "\n";
    } else if (key == "error") {
      result.error += value + "\n";
    }
  }
  if (!has_pipeline) {
    return MakeProblem(DiagnosticCode::kParseError,
                       fmt::format("{} is no reproducer: its head has no line \"// pipeline: ...\"", source_name),
                       "give a file named autosp-reproducer-*.aspir, or name the passes with --passes=");
  }
  return result;
}

Expected<std::string> WriteReproducer(const Reproducer& reproducer, const std::string& directory) {
  const std::string text = reproducer.ToText();
  const std::string path = fmt::format("{}/autosp-reproducer-{:016x}.aspir", directory, Fnv1a(text));
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return FileError(directory, error.message());
  // Several ranks may write the same failure at once: each writes its own file and the rename decides.
  const std::string temporary = fmt::format("{}.{}.tmp", path, getpid());
  errno = 0;
  std::ofstream stream(temporary, std::ios::binary | std::ios::trunc);
  stream << text;
  stream.close();
  if (!stream) {
    const std::string why = errno != 0 ? std::strerror(errno) : "write failed";
    std::filesystem::remove(temporary, error);
    return FileError(path, why);
  }
  std::filesystem::rename(temporary, path, error);
  if (error) {
    const std::string why = error.message();
    std::filesystem::remove(temporary, error);
    return FileError(path, why);
  }
  return path;
}

}  // namespace autosp
