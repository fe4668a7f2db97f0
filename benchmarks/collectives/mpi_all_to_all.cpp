// mpirun -n P autosp_bench_mpi_all_to_all: Communicator::AllToAll over MPI against MPI_Alltoall, side by side in one
// run, in both orders. Both write a fresh tensor, as a functional collective does.
#include <autosp/runtime/mpi_communicator.h>

#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <mpi.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <vector>

namespace {

using Call = std::function<void()>;

double Timed(const Call& call) {
  MPI_Barrier(MPI_COMM_WORLD);
  const double start = MPI_Wtime();
  call();
  double seconds = MPI_Wtime() - start;
  MPI_Allreduce(MPI_IN_PLACE, &seconds, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  return seconds;
}

// The value below which `part` of all lie.
double Quantile(std::vector<double> values, double part) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(static_cast<double>(values.size()) * part)];
}

}  // namespace

int main() {
  namespace runtime = autosp::runtime;
  if (!runtime::InitializeMpi().ok()) return 1;
  const auto group = runtime::MakeMpiCommunicator("bench", std::chrono::seconds(60));
  if (!group.ok()) return 1;
  const auto ranks = static_cast<int>((*group)->size());
  const bool first = (*group)->rank() == 0;
  if (first)
    std::printf("all-to-all over MPI, %d ranks; bytes of one rank's operand\n%12s %12s %12s %10s %8s %14s\n", ranks,
                "bytes", "MPI us", "autosp us", "GB/s", "ratio", "fastest tenth");
  for (std::int64_t bytes = 1024; bytes <= (std::int64_t{1} << 25); bytes *= 4) {
    const at::Tensor x = at::ones({ranks, bytes / ranks}, at::kByte);
    const Call plain = [&] {
      at::Tensor result = at::empty(x.sizes(), x.options());
      const auto count = static_cast<int>(bytes / ranks);
      MPI_Alltoall(x.const_data_ptr(), count, MPI_BYTE, result.mutable_data_ptr(), count, MPI_BYTE, MPI_COMM_WORLD);
    };
    const Call ours = [&] {
      if (!(*group)->AllToAll(x).ok()) MPI_Abort(MPI_COMM_WORLD, 1);
    };
    const int repeats = static_cast<int>(std::clamp<std::int64_t>((std::int64_t{1} << 30) / bytes, 60, 2000));
    std::vector<double> plain_times, our_times;
    for (int i = -5; i < repeats; ++i) {
      const bool plain_first = i % 2 == 0;
      double times[2];
      for (const bool turn : {plain_first, !plain_first}) times[turn ? 0 : 1] = Timed(turn ? plain : ours);
      if (i < 0) continue;
      plain_times.push_back(times[0]);
      our_times.push_back(times[1]);
    }
    const double plain_time = Quantile(plain_times, 0.5), our_time = Quantile(our_times, 0.5);
    if (first)
      std::printf("%12lld %12.1f %12.1f %10.2f %8.3f %14.3f\n", static_cast<long long>(bytes), plain_time * 1e6,
                  our_time * 1e6, static_cast<double>(bytes) / our_time * 1e-9, our_time / plain_time,
                  Quantile(our_times, 0.1) / Quantile(plain_times, 0.1));
  }
  return 0;
}
