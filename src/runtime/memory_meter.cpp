// An allocator before the CPU allocator. It hands out the blocks of the one behind it with another deleter and
// remembers their sizes in a table by address. A wrapper as the DataPtr's context would need no table, but then context
// and data were no longer the same pointer, and raw_allocate and copy-on-write storages rely on that.

#include <autosp/runtime/memory_meter.h>

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <limits>
#include <mutex>
#include <optional>
#include <unordered_map>

namespace autosp::runtime {
namespace {

struct Block {
  std::int64_t bytes = 0;
  std::uint64_t session = 0;         // 0: handed out while nothing was counted.
  c10::DeleterFnPtr free = nullptr;  // Of the allocator that the block came from, which may have been replaced since.
};

// Blocks by address, in shards with a lock each, so that threads seldom meet.
class BlockTable {
 public:
  // Returns what lay there before: a block that was freed without its deleter.
  std::optional<Block> Put(void* data, const Block& block) {
    Shard& shard = ShardOf(data);
    const std::lock_guard lock(shard.mutex);
    const auto [place, fresh] = shard.blocks.try_emplace(data, block);
    if (fresh) return std::nullopt;
    const Block former = place->second;
    place->second = block;
    return former;
  }

  std::optional<Block> Take(void* data) {
    Shard& shard = ShardOf(data);
    const std::lock_guard lock(shard.mutex);
    const auto place = shard.blocks.find(data);
    if (place == shard.blocks.end()) return std::nullopt;
    const Block block = place->second;
    shard.blocks.erase(place);
    return block;
  }

 private:
  static constexpr int kShardBits = 6;
  static constexpr std::size_t kCacheLine = 64;

  struct alignas(kCacheLine) Shard {
    std::mutex mutex;
    std::unordered_map<void*, Block> blocks;
  };

  Shard& ShardOf(void* data) {
    // Fibonacci hashing: the low bits of an address are alignment, its high bits are all alike.
    constexpr std::uint64_t kGoldenRatio = 0x9E3779B97F4A7C15;
    return shards_[(reinterpret_cast<std::uintptr_t>(data) * kGoldenRatio) >> (64 - kShardBits)];
  }

  std::array<Shard, std::size_t{1} << kShardBits> shards_;
};

void FreeMetered(void* data);

class MeteredAllocator final : public c10::Allocator {
 public:
  // Never destroyed: storages keep a pointer to their allocator, and some live until the process ends.
  static MeteredAllocator& Get() {
    static auto* const allocator = new MeteredAllocator;
    return *allocator;
  }

  c10::DataPtr allocate(std::size_t n) override {
    c10::DataPtr data = behind()->allocate(n);
    const c10::DeleterFnPtr free = data.get_deleter();
    if (data.get() != nullptr) Record(data.get(), {static_cast<std::int64_t>(n), CountingSession(), free});
    // A block that does not count gets the deleter, too: raw_deleter() promises it for every one.
    TORCH_INTERNAL_ASSERT(data.compare_exchange_deleter(free, &FreeMetered));
    return data;
  }

  c10::DeleterFnPtr raw_deleter() const override { return &FreeMetered; }

  void copy_data(void* dest, const void* src, std::size_t count) const override {
    behind()->copy_data(dest, src, count);
  }

  void Free(void* data) {
    // The entry goes first: once the block is free, another thread may be given the same address.
    if (const std::optional<Block> block = blocks_.Take(data)) {
      Uncount(*block);
      block->free(data);
    } else {
      // Through raw_deallocate, of a block that was allocated before the meter was there.
      behind()->raw_deleter()(data);
    }
  }

  Status Start() {
    const std::lock_guard lock(mutex_);
    if (starts_ == 0) {
      AUTOSP_RETURN_IF_ERROR(Install());
      ++session_;
      live_ = 0;
      peak_ = 0;
      counting_ = true;
    }
    ++starts_;
    return Status::Ok();
  }

  void Stop() {
    const std::lock_guard lock(mutex_);
    if (starts_ == 0 || --starts_ > 0) return;
    counting_ = false;
    // An allocator that was set over this one may hand its calls on to it; that one stays, and so does this.
    if (c10::GetCPUAllocator() != this) return;
    c10::SetCPUAllocator(behind(), priority_);
    installed_ = c10::GetCPUAllocator() == this;
  }

  void ResetPeak() {
    peak_ = live_.load();
    RaisePeak(live_);  // A block may have come between the two.
  }

  std::int64_t live() const { return live_; }
  std::int64_t peak() const { return peak_; }

 private:
  c10::Allocator* behind() const { return behind_.load(std::memory_order_acquire); }
  std::uint64_t CountingSession() const { return counting_ ? session_.load() : 0; }

  void Record(void* data, const Block& block) {
    if (const std::optional<Block> former = blocks_.Put(data, block)) Uncount(*former);
    if (block.session != 0) RaisePeak(live_.fetch_add(block.bytes) + block.bytes);
  }

  void Uncount(const Block& block) {
    if (block.session != 0 && block.session == session_) live_ -= block.bytes;
  }

  void RaisePeak(std::int64_t bytes) {
    std::int64_t peak = peak_;
    while (peak < bytes && !peak_.compare_exchange_weak(peak, bytes)) {
    }
  }

  Status Install() {
    c10::Allocator* const present = c10::GetCPUAllocator();
    if (present == this) return Status::Ok();
    if (installed_) {
      return Diagnostic{.code = DiagnosticCode::kExecution,
                        .message = "another CPU allocator was set while the memory meter ran, and may bypass it now",
                        .hint = "set that allocator before the meter starts"};
    }
    if (present->raw_deleter() == nullptr) {
      return Diagnostic{.code = DiagnosticCode::kExecution,
                        .message = "the present CPU allocator has no raw deleter, so its blocks cannot be metered",
                        .hint = "start the memory meter under PyTorch's own CPU allocator"};
    }
    behind_.store(present, std::memory_order_release);
    // The lowest priority that wins is the one in force. A higher one would stay in force after the meter has stopped.
    for (int priority = 0; priority <= std::numeric_limits<std::uint8_t>::max() && !installed_; ++priority) {
      priority_ = static_cast<std::uint8_t>(priority);
      c10::SetCPUAllocator(this, priority_);
      installed_ = c10::GetCPUAllocator() == this;
    }
    return Status::Ok();
  }

  BlockTable blocks_;
  std::atomic<c10::Allocator*> behind_ = nullptr;
  std::atomic<bool> counting_ = false;
  std::atomic<std::uint64_t> session_ = 0;  // Counts the first starts; a block counts in its own session only.
  std::atomic<std::int64_t> live_ = 0;
  std::atomic<std::int64_t> peak_ = 0;

  std::mutex mutex_;  // Of what follows.
  std::int64_t starts_ = 0;
  bool installed_ = false;
  std::uint8_t priority_ = 0;
};

void FreeMetered(void* data) {
  if (data != nullptr) MeteredAllocator::Get().Free(data);
}

}  // namespace

Status StartMemoryMeter() { return MeteredAllocator::Get().Start(); }
void StopMemoryMeter() { MeteredAllocator::Get().Stop(); }
void ResetMemoryMeterPeak() { MeteredAllocator::Get().ResetPeak(); }
std::int64_t MemoryMeterLive() { return MeteredAllocator::Get().live(); }
std::int64_t MemoryMeterPeak() { return MeteredAllocator::Get().peak(); }

namespace {

void StartOrThrow() {
  if (const Status status = StartMemoryMeter(); !status.ok()) C10_THROW_ERROR(Error, status.ToString());
}

}  // namespace
}  // namespace autosp::runtime

// Without tensors there is no device to dispatch by: one kernel for all.
TORCH_LIBRARY_FRAGMENT(autosp_rt, m) {
  m.def("memory_meter_start() -> ()", &autosp::runtime::StartOrThrow);
  m.def("memory_meter_stop() -> ()", &autosp::runtime::StopMemoryMeter);
  m.def("memory_meter_reset_peak() -> ()", &autosp::runtime::ResetMemoryMeterPeak);
  m.def("memory_meter_live() -> int", &autosp::runtime::MemoryMeterLive);
  m.def("memory_meter_peak() -> int", &autosp::runtime::MemoryMeterPeak);
}
