#include "threads.h"

#include <thread>

namespace autosp::runtime::conformance {

std::vector<std::string> RunOnThreads(const Case& each, const MakeGroup& make_group) {
  auto first = make_group(std::string(each.name) + "/first", each.deadline);
  auto second = make_group(std::string(each.name) + "/second", each.deadline);
  std::vector<RankContext> contexts(first.size());
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < first.size(); ++rank) {
    RankContext& context = contexts[rank];
    context.first = std::move(first[rank]);
    context.second = std::move(second[rank]);
    context.die = [&context] {
      context.first.reset();
      context.second.reset();
    };
    threads.emplace_back([&each, &context] { each.run(context); });
  }
  std::vector<std::string> problems;
  for (std::size_t rank = 0; rank < threads.size(); ++rank) {
    threads[rank].join();
    for (const std::string& problem : contexts[rank].problems) {
      problems.push_back("rank " + std::to_string(rank) + ": " + problem);
    }
  }
  return problems;
}

}  // namespace autosp::runtime::conformance
