// mpirun -n P mpi_conformance: the conformance cases over MPI, on every rank; exit status 1 where one has problems.
// mpirun -n P mpi_conformance --die: one rank ends without a word in the middle; mpirun must end the others.
#include "conformance.h"

#include <autosp/runtime/mpi_communicator.h>

#include <ATen/ops/ones.h>
#include <mpi.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

namespace autosp::runtime::conformance {
namespace {

using namespace std::chrono_literals;

std::unique_ptr<Communicator> Make(const std::string& name, std::chrono::milliseconds deadline,
                                   const std::vector<std::int64_t>& ranks = {}) {
  auto made = MakeMpiCommunicator(name, deadline, ranks);
  if (made.ok()) return std::move(made.value());
  std::fprintf(stderr, "%s\n", made.status().ToString().c_str());
  MPI_Abort(MPI_COMM_WORLD, 2);
  return nullptr;
}

int Report(std::int64_t rank, const std::string& name, const std::vector<std::string>& problems) {
  for (const std::string& problem : problems) {
    std::fprintf(stderr, "FAILED %s, rank %d: %s\n", name.c_str(), static_cast<int>(rank), problem.c_str());
  }
  if (rank == 0 && problems.empty()) std::printf("ok %s\n", name.c_str());
  return problems.empty() ? 0 : 1;
}

// Groups of some of the processes, in another order, side by side.
std::vector<std::string> Subgroups(const GroupPosition& world) {
  RankContext result;
  const std::int64_t half = world.size / 2;
  if (half == 0) return {};
  std::vector<std::int64_t> ranks;
  for (std::int64_t q = half; q-- > 0;) ranks.push_back(world.rank < half ? q : world.size - half + q);
  const bool member = world.rank < half || world.rank >= world.size - half;
  if (member) {
    const auto group = Make("half", 20s, ranks);
    const auto all = group->AllGather(Sample({3}, at::kLong, world.rank));
    result.Expect(all.ok(), "all_gather of a subgroup");
    for (std::size_t i = 0; all.ok() && i < ranks.size(); ++i) {
      result.Expect((*all)[static_cast<std::int64_t>(i)].equal(Sample({3}, at::kLong, ranks[i])), "order of ranks");
    }
  }
  result.Expect(!MakeMpiCommunicator("g", 1s, {0, 0}).ok(), "a rank twice");
  result.Expect(!MakeMpiCommunicator("g", 1s, {world.size}).ok(), "a rank that does not exist");
  result.Expect(world.size == 1 || !MakeMpiCommunicator("g", 1s, {(world.rank + 1) % world.size}).ok(), "not a member");
  return result.problems;
}

int RunAll() {
  const bool before = MpiWorld().ok();
  const Status started = InitializeMpi();
  if (!started.ok() || before) return 2;
  const GroupPosition world = *MpiWorld();
  int failed = Report(world.rank, "Subgroups", Subgroups(world));
  for (const Case& each : Cases()) {
    if (world.size == 1 && each.deadline < 60s) continue;
    MPI_Barrier(MPI_COMM_WORLD);
    RankContext context;
    context.first = Make(std::string(each.name) + "/first", each.deadline);
    context.second = Make(std::string(each.name) + "/second", each.deadline);
    context.die = [] {};  // A process that really dies ends the job.
    each.run(context);
    failed |= Report(world.rank, each.name, context.problems);
  }
  MPI_Barrier(MPI_COMM_WORLD);
  // The library leaves this out after a failure, and here failures are what was wanted.
  MPI_Finalize();
  return failed;
}

int Die() {
  if (!InitializeMpi().ok()) return 2;
  const auto group = Make("dying", 60s);
  for (int call = 0; call < 100; ++call) {
    if (call == 50 && group->rank() == group->size() - 1) _exit(3);
    const auto result = group->AllReduce(at::ones({100}), Reduction::kSum);
    if (!result.ok()) return 1;
  }
  return 0;
}

}  // namespace
}  // namespace autosp::runtime::conformance

int main(int argc, char** argv) {
  namespace conformance = autosp::runtime::conformance;
  if (argc > 1 && std::strcmp(argv[1], "--die") == 0) return conformance::Die();
  return conformance::RunAll();
}
