#pragma once

#include <autosp/support/status.h>

#include <cstdint>

namespace autosp::runtime {

// Counts the bytes of CPU tensor storage in this process: what torch.cuda.memory_allocated and max_memory_allocated are
// on a GPU. A block counts the bytes that were asked for, without the rounding of malloc. Off until it is started.
//
// Only memory that PyTorch's CPU allocator gives out is seen. Scratch memory inside oneDNN or MKL, pinned memory,
// shared memory and arrays of other libraries are not; neither is the storage of an older tensor that is resized,
// because a storage keeps the allocator it was made with.
//
// Counting is exact from any number of threads. Starting and stopping is not: do both where no other thread allocates,
// as c10::SetAllocator demands.

// Puts the meter before the present CPU allocator, with nothing counted. Starts nest: the second changes nothing and
// wants a stop of its own. kExecution when the present allocator cannot be metered: it
// has no raw deleter, or it was set over a meter that was running.
Status StartMemoryMeter();

// The last stop puts the allocator back. What was counted stays readable, and blocks that outlive the meter still count
// down when they are freed, until the next start. Without a start it does nothing.
void StopMemoryMeter();

// The peak becomes what is live now.
void ResetMemoryMeterPeak();

// Bytes that were allocated since the first start and are not freed yet. Memory that is older never counts, nor does
// its end.
std::int64_t MemoryMeterLive();

// The highest that MemoryMeterLive() was since the first start or the last reset.
std::int64_t MemoryMeterPeak();

}  // namespace autosp::runtime
