#include "imgserver/boot_plan.h"

#include <algorithm>
#include <limits>

namespace bootstream {
namespace {

struct ChunkSpan {
  uint64_t first = 0;
  uint64_t last = 0;
};

ChunkSpan SpanOf(const Grid& grid, uint64_t offset, uint64_t size) {
  return {offset / grid.chunk_bytes, (offset + size - 1) / grid.chunk_bytes};
}

// Chunks in the order in which they were first added.
class ChunkOrder {
 public:
  explicit ChunkOrder(uint64_t chunk_count) : seen_(chunk_count) {}

  // False if it is there already.
  bool Add(uint64_t chunk) {
    if (seen_[chunk]) return false;
    seen_[chunk] = true;
    ++count_;
    if (!extents_.empty() &&
        extents_.back().first + extents_.back().count == chunk) {
      ++extents_.back().count;
    } else {
      extents_.push_back({chunk, 1});
    }
    return true;
  }
  void Add(const Grid& grid, uint64_t offset, uint64_t size) {
    if (size == 0) return;
    const ChunkSpan span = SpanOf(grid, offset, size);
    for (uint64_t chunk = span.first; chunk <= span.last; ++chunk) Add(chunk);
  }
  const std::vector<ChunkExtent>& extents() const { return extents_; }
  uint64_t count() const { return count_; }

 private:
  std::vector<bool> seen_;
  std::vector<ChunkExtent> extents_;
  uint64_t count_ = 0;
};

std::vector<ChunkExtent> PinnedChunks(const Grid& grid,
                                      std::vector<ByteExtent> ranges) {
  std::sort(ranges.begin(), ranges.end());
  std::vector<ChunkExtent> pinned;
  for (const ByteExtent& range : ranges) {
    const ChunkSpan span = SpanOf(grid, range.offset, range.size);
    const uint64_t end = span.last + 1;
    if (!pinned.empty() &&
        pinned.back().first + pinned.back().count >= span.first) {
      ChunkExtent& last = pinned.back();
      last.count = std::max(last.first + last.count, end) - last.first;
    } else {
      pinned.push_back({span.first, end - span.first});
    }
  }
  return pinned;
}

// Adds what was read from the take-over on, and is not in `seen`.
void AddPrefetch(const Grid& grid, const BootTrace& trace, size_t take_over,
                 ChunkOrder& seen, std::vector<PrefetchEntry>& entries) {
  if (take_over >= trace.reads.size()) return;
  const uint64_t began = trace.reads[take_over].ms;
  for (size_t i = take_over; i < trace.reads.size(); ++i) {
    const TraceRead& read = trace.reads[i];
    const uint64_t ms = read.ms > began ? read.ms - began : 0;
    const auto time = static_cast<uint32_t>(
        std::min<uint64_t>(ms, std::numeric_limits<uint32_t>::max()));
    const ChunkSpan span = SpanOf(grid, read.offset, read.size);
    for (uint64_t chunk = span.first; chunk <= span.last; ++chunk) {
      if (!seen.Add(chunk)) continue;
      if (!entries.empty() && entries.back().time_ms == time &&
          entries.back().first + entries.back().count == chunk) {
        ++entries.back().count;
      } else {
        entries.push_back({chunk, 1, time});
      }
    }
  }
}

// A kernel and its initramfs are more than that; labels that are probed, a font
// and a picture are less.
constexpr uint64_t kKernelBytesMin = uint64_t{8} << 20;

// Partitions that the first `take_over` reads have loaded a kernel from.
std::vector<ByteExtent> LoaderPartitions(const PartitionTable& table,
                                         const BootTrace& trace,
                                         size_t take_over) {
  std::vector<ByteExtent> loaded;
  for (const Partition& partition : table.partitions) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < take_over; ++i) {
      const TraceRead& read = trace.reads[i];
      const bool inside = read.offset >= partition.extent.offset &&
                          read.offset < partition.extent.end();
      if (inside) bytes += read.size;
    }
    if (bytes >= kKernelBytesMin) loaded.push_back(partition.extent);
  }
  return loaded;
}

Status CheckTrace(const Grid& grid, const BootTrace& trace) {
  if (trace.disk_bytes != grid.size_bytes) {
    return Error{ErrorCode::kInvalid, "the trace is of a disk of " +
                                          std::to_string(trace.disk_bytes) +
                                          " bytes, this one has " +
                                          std::to_string(grid.size_bytes)};
  }
  return OkStatus();
}

Status CheckMachineTrace(const Grid& grid, const BootTrace& trace) {
  if (trace.firmware != kFromStreamed) {
    return Error{ErrorCode::kInvalid,
                 "a machine's trace is made by 'streamctl trace'; what "
                 "'imgtool trace' has watched goes to --trace"};
  }
  return CheckTrace(grid, trace);
}

}  // namespace

Result<BootPlan> PlanBoot(const Grid& grid, const ImageLayout& layout,
                          const std::optional<BootTrace>& trace,
                          const std::vector<BootTrace>& machines) {
  ChunkOrder order(grid.chunk_count());
  size_t take_over = 0;
  if (trace) {
    if (auto status = CheckTrace(grid, *trace); !status) return status.error();
    const auto found = FindTakeOver(*trace);
    if (!found) {
      return Error{ErrorCode::kRefused,
                   "in the traced boot the streaming driver never took over; "
                   "is the bootstream package installed in the image?"};
    }
    take_over = *found;
    for (size_t i = 0; i < take_over; ++i) {
      order.Add(grid, trace->reads[i].offset, trace->reads[i].size);
    }
  }
  if (!trace && layout.boot_in_root) {
    return Error{ErrorCode::kRefused,
                 "/boot lies in the root file system; what the boot loader "
                 "reads of that must be watched (imgtool trace, --trace)"};
  }
  for (const ByteExtent& table : layout.table.table_extents) {
    order.Add(grid, table.offset, table.size);
  }
  auto rest = layout.boot;
  std::sort(rest.begin(), rest.end());
  for (const ByteExtent& extent : rest) {
    order.Add(grid, extent.offset, extent.size);
  }
  BootPlan plan;
  plan.boot_set = order.extents();
  plan.boot_chunk_count = order.count();
  std::vector<ByteExtent> pinned = layout.pinned;
  if (trace) {
    const auto loaded = LoaderPartitions(layout.table, *trace, take_over);
    pinned.insert(pinned.end(), loaded.begin(), loaded.end());
  }
  plan.pinned = PinnedChunks(grid, std::move(pinned));
  if (trace) AddPrefetch(grid, *trace, take_over, order, plan.prefetch);
  for (const BootTrace& machine : machines) {
    if (auto status = CheckMachineTrace(grid, machine); !status) {
      return status.error();
    }
    AddPrefetch(grid, machine, 0, order, plan.prefetch);
  }
  return plan;
}

}  // namespace bootstream
