// A program of someone else: reads a graph, makes it sequence-parallel, and says so.
#include <autosp/autosp.h>

#include <cstdio>

namespace {

constexpr const char* kText = R"(
graph @embed(%ids: i64[1, 8] tag=1, %table: f32[16, 4] grad) form=captured {
  %rows = aten.embedding(%table, %ids) : f32[1, 8, 4] grad
  return %rows
}
)";

}  // namespace

int main() {
  autosp::Expected<autosp::Graph> graph = autosp::Parse(kText, "consumer");
  if (!graph) {
    std::fprintf(stderr, "%s\n", graph.status().ToString().c_str());
    return 1;
  }
  autosp::CompileOptions options;
  options.pass.sequence_parallel_size = 2;
  options.pass.outputs = "gathered";
  autosp::Expected<autosp::CompileResult> result = autosp::compile(*graph, options);
  if (!result || !result->partitioned) {
    std::fprintf(stderr, "%s\n", result ? "the graph was left as it was" : result.status().ToString().c_str());
    return 1;
  }
  std::printf("partitioned over 2 ranks\n%s", autosp::Print(*graph).c_str());
  return 0;
}
