#include "bootagent/region_size.h"

#include <algorithm>
#include <string>

#include "blockmap/base/progress.h"
#include "blockmap/disk/file_extents.h"

namespace bootstream {
namespace {

// Room that a plan without a guarantee still has for what is read and written
// before somebody makes up his mind.
constexpr uint64_t kWorkingChunksMin = 64;
// An extent of a file gives up to two chunks' worth of edges away.
constexpr uint64_t kExpectedExtents = 16;
// A region in more pieces than this needs more room for its list.
constexpr uint64_t kRegionExtentsMin = 4096;

uint64_t EdgeBytes(uint64_t bytes, const Grid& grid) {
  return std::max(bytes / 64, 2 * kExpectedExtents * grid.chunk_bytes);
}

uint64_t FileBytesFor(uint64_t chunks, const Grid& grid) {
  const uint64_t bytes = chunks * grid.chunk_bytes;
  return bytes + EdgeBytes(bytes, grid);
}

uint64_t ChunksOfFile(uint64_t bytes, const Grid& grid) {
  const uint64_t lost =
      std::max(bytes / 65 + 1, 2 * kExpectedExtents * grid.chunk_bytes);
  return bytes > lost ? (bytes - lost) / grid.chunk_bytes : 0;
}

// How many of `count` whole chunks a file of `bytes` has at least.
uint64_t Least(uint64_t count, uint64_t bytes, const RegionRoom& room,
               const Grid& grid) {
  const uint64_t left = room.bytes > bytes ? room.bytes - bytes : 0;
  const uint64_t lost = left / grid.chunk_bytes + 1 +
                        EdgeBytes(bytes, grid) / 2 / grid.chunk_bytes;
  return count > lost ? count - lost : 0;
}

// What a region of `chunks`, with room for the start, lacks; in chunks.
uint64_t Missing(const Plan& plan, const RegionRoom& room, uint64_t chunks,
                 uint64_t start) {
  const uint64_t available = plan.region_file_bytes_max;
  const Grid& grid = plan.disk_grid;
  const uint64_t total = Least(room.chunks, available, room, grid);
  const uint64_t plain = Least(room.plain, available, room, grid);
  return std::max(chunks > total ? chunks - total : 0,
                  start > plain ? start - plain : 0);
}

std::string TooSmall(const Plan& plan, uint64_t wanted) {
  const uint64_t available = plan.region_file_bytes_max;
  return "the region does not fit: partition " +
         std::to_string(plan.source_partition) + " can give " +
         FormatBytes(available) + " (" + FormatBytes(plan.source_free_bytes) +
         " free, " + FormatBytes(plan.headroom_bytes) + " stay free), " +
         FormatBytes(wanted) + " are needed, " +
         FormatBytes(wanted - available) + " are missing";
}

std::string TooScattered(const Plan& plan, uint64_t missing) {
  return "the region does not fit: the free space of partition " +
         std::to_string(plan.source_partition) +
         " is too scattered, or lies where the image must start; " +
         FormatBytes(missing * plan.disk_grid.chunk_bytes) + " are missing";
}

}  // namespace

RegionRoom CountRoom(const ExtSpace& space, const Plan& plan,
                     const Manifest& manifest) {
  RegionRoom room;
  room.bytes = space.free_bytes() + space.file_bytes();
  const uint64_t image_chunks = manifest.grid().chunk_count();
  for (const auto* extents : {&space.free, &space.file}) {
    for (const DiskExtent& extent :
         ToExtents(WholeChunks(*extents, plan.disk_grid))) {
      ++room.extents;
      for (uint64_t c = extent.first; c < extent.end(); ++c) {
        if (DiskChunk{c} == plan.anchor_chunk()) continue;
        ++room.chunks;
        room.plain += c >= image_chunks || !IsKept(manifest, ImageChunk{c});
      }
    }
  }
  room.extents = std::max(kRegionExtentsMin, room.extents + kExpectedExtents);
  return room;
}

Status SizeRegion(Plan& plan, const RegionRoom& room,
                  const PlanOptions& options) {
  Account& account = plan.account;
  const Grid& grid = plan.disk_grid;
  const uint64_t fixed = account.metadata + account.spare;
  const uint64_t start = account.boot_set + account.relocations + fixed;
  const uint64_t full = std::max(account.image + fixed, start);
  const uint64_t least = std::min(full, start + kWorkingChunksMin);
  const uint64_t free = plan.source_free_bytes;
  const uint64_t available =
      free > plan.headroom_bytes ? free - plan.headroom_bytes : 0;
  plan.region_file_bytes_max = available;
  const auto fits = [&](uint64_t chunks) {
    return FileBytesFor(chunks, grid) <= available &&
           Missing(plan, room, chunks, start) == 0;
  };
  plan.guaranteed = fits(full);
  const bool any = plan.guaranteed || options.when_full == WhenFull::kUnset;
  const uint64_t wanted = any ? full : least;
  if (!fits(wanted)) {
    const uint64_t bytes = FileBytesFor(wanted, grid);
    std::string message =
        bytes > available
            ? TooSmall(plan, bytes)
            : TooScattered(plan, Missing(plan, room, wanted, start));
    if (options.when_full == WhenFull::kUnset && fits(least)) {
      message +=
          "; with --when-full block or give-up-source a smaller region will do";
    }
    return Error{ErrorCode::kRefused, std::move(message)};
  }
  const uint64_t hoped = std::min(ChunksOfFile(available, grid),
                                  Least(room.chunks, available, room, grid));
  account.region = std::max(plan.guaranteed ? full : hoped, least);
  plan.region_file_bytes =
      std::min(FileBytesFor(account.region, grid), available);
  account.room_for_image = account.region - fixed;
  return OkStatus();
}

}  // namespace bootstream
