#ifndef IMGSERVER_BOOT_PLAN_H_
#define IMGSERVER_BOOT_PLAN_H_

#include <optional>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/image/manifest.h"
#include "imgserver/boot_trace.h"
#include "imgserver/image_layout.h"

namespace bootstream {

// Which chunks must be at home before the first boot, and which will be wanted
// soon after it.  Pure.
struct BootPlan {
  std::vector<ChunkExtent> boot_set;  // in boot order
  std::vector<ChunkExtent> pinned;    // ascending
  std::vector<PrefetchEntry> prefetch;
  uint64_t boot_chunk_count = 0;
};

// The boot set is what the traced boot read up to the take-over, in that order,
// then the tables and what `layout` says.  Without a trace only the latter.
// `machines` are what streamed machines have read (kFromStreamed): it is wanted
// too, behind what the watched boot has read.
// A partition from which the loader has read a kernel is pinned, whatever is
// known of it: /boot may lie in any file system.
// kRefused: the trace has no take-over, or there is none and /boot lies in the
// root file system; kInvalid: it is of another disk.
Result<BootPlan> PlanBoot(const Grid& grid, const ImageLayout& layout,
                          const std::optional<BootTrace>& trace,
                          const std::vector<BootTrace>& machines = {});

}  // namespace bootstream

#endif  // IMGSERVER_BOOT_PLAN_H_
