#pragma once

#include <autosp/pass/pass.h>

namespace autosp {

// Partitioned -> Lowered, in one of two ways (option collectives):
//
// fused: every autosp.X becomes the op autosp_rt.X (docs/runtime.md), which copies and communicates in one call. The
// graph stays as small as the user's and no kernel is compiled for the copies; the compiler cannot look inside. "auto"
// takes it where all values are on the CPU: there nothing runs beside a collective, and each kernel is a run of the C++
// compiler.
//
// functional: spells every autosp.* node in ops that the framework's compiler knows: ATen views and permutes, which
// inductor fuses, and functional collectives (_c10d_functional.*, group by name), which it schedules and never
// recomputes. With P ranks, a factor of length n cut into blocks of L = ceildiv(n, P), in a dim seen as
// (major, n, minor):
//   shard_slice     reshape n to (P, L), index_select the rank's row.      P does not divide n: index_select of the
//                   positions min(rank*L + arange(L), n - 1).
//   all_gather      all_gather_into_tensor gives (P, .., L, ..); P is moved before L; a padded tail is dropped.
//   all_to_all      the new factor becomes (P, L'), P goes to the front; all_to_all_single with splits [1]*P; P
//                   goes before L of the old factor (Ulysses, arXiv 2309.14509, section 3).
//                   Exchanges that one node reads (query, key, value) and that differ in the number of heads at most
//                   are one: their blocks are concatenated on the heads and split again.
//   reduce_scatter  P to the front, reduce_scatter_tensor.
//   all_reduce      all_reduce.
//   mask_padding    where(rank*L + arange(L) < n, x, value).
// In both, calls that read neighbours (exchange-halos) become a gather of edges and ATen ops first (halo_lowering.h),
// and autosp_fx.draw_seed becomes the aten.randint that it is on each rank. The rank is a value read at run time
// (autosp_fx.mesh_coordinate), so the program is the same on every rank.
std::unique_ptr<Pass> MakeLowerCollectivesPass();

}  // namespace autosp
