#pragma once

#include <autosp/runtime/communicator.h>
#include <autosp/support/status.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

// Communicators over MPI, in the library autosp_mpi, which alone links libmpi. Needs no <mpi.h> to include.
namespace autosp::runtime {

// Collective over all processes of the job; call it once in each before any communicator is made. Starts MPI with
// MPI_THREAD_MULTIPLE unless the program has started it, and then also ends it when the process exits; but not after a
// failed collective: such a process leaves without MPI_Finalize, upon which mpirun ends the job.
Status InitializeMpi();

// This process and the number of processes of the job; kNoProcessGroup before InitializeMpi.
Expected<GroupPosition> MpiWorld();

// This process's end of a group of processes of the job, by their ranks in MPI_COMM_WORLD; empty: all of them. Rank i
// of the group is world_ranks[i]. Sends nothing: every member makes its end by itself, with the same arguments, and the
// n-th end of these arguments here talks to the n-th there.
//
// CPU tensors only. Reductions are taken in the order of the ranks. Where MPI has not given MPI_THREAD_MULTIPLE, a
// communicator serves only the thread that made it.
Expected<std::unique_ptr<Communicator>> MakeMpiCommunicator(const std::string& name, std::chrono::milliseconds deadline,
                                                            std::vector<std::int64_t> world_ranks = {});

}  // namespace autosp::runtime
