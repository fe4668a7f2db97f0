#pragma once

#include <autosp/pass/pass.h>

namespace autosp {

// Resharded -> Resharded. Names the communication of every autosp.reshard, by where the value lies and must lie:
//   replicated -> sharded     autosp.shard_slice      no communication; a padded tail repeats the last element
//   sharded -> replicated     autosp.all_gather       the padded tail is dropped
//   sharded -> sharded        autosp.all_to_all       another dim; the same dim cut otherwise: all_gather, shard_slice
//   partial -> replicated     autosp.all_reduce
//   partial -> sharded        autosp.reduce_scatter
// Each collective carries what it needs in attributes (dim, major, length, minor, group; for all_to_all also to_dim
// ...), so that it can be read, run and verified without any layout: shapes in a Partitioned graph are local.
//   %q_sp = autosp.reshard(%q: f32[2, 8, s0@sp, 16]) : f32[2, 8@sp, s0, 16]
//   ->  %q_sp = autosp.all_to_all(%q) {dim=2, major=1, length=%s0, minor=1, to_dim=1, to_major=1,
//                                      to_length=8, to_minor=1, group=group.sp}
std::unique_ptr<Pass> MakeReshardToCollectivesPass();

}  // namespace autosp
