#ifndef BLOCKMAP_DISK_MOVER_H_
#define BLOCKMAP_DISK_MOVER_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "blockmap/base/block_device.h"
#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "blockmap/base/types.h"
#include "blockmap/map/map_store.h"

// The operations that change places: of source chunks, out of the way and back,
// and of image chunks.  Each works in batches of a few MiB: all copies, a
// flush, reading back and comparing, then one commit.  A power cut leaves each
// batch done or not begun; running it again is harmless.  They know nothing of
// boot sets or phases; the streaming driver uses them as the agent does.
// One thread; the caller sees to it that nobody writes to the chunks meanwhile.

namespace bootstream {

struct MoverOptions {
  uint32_t batch_chunks = 64;
  // Read every copy back and compare before it counts.
  bool verify = true;
  // Called after each durable action with its name: "copied" (on the disk, not
  // recorded) and "recorded"; an error ends the operation there.
  std::function<Status(std::string_view)> after;
  // Where an image chunk goes instead if its place takes no write: another one
  // that is reserved for the caller, or none.  Without it that is an error.
  std::function<std::optional<DiskChunk>(ImageChunk)> elsewhere;
  // Chunks that are done since the last call.
  std::function<void(uint64_t)> progress;
};

// Copy the `sources` into free chunks of the region and record it.  Afterwards
// each one's old place is ours and reserved for the caller.  One that was
// relocated before moves on to another chunk, and the place it leaves is free.
// A place that takes no write stays reserved, and another one is taken.
// kNoSpace: the region is full; what was recorded before stays.
Task<Status> Relocate(BlockDevice& device, MapStore& store,
                      std::span<const DiskChunk> sources,
                      const MoverOptions& options = {});

struct ImageMove {
  ImageChunk chunk;  // REQUIRES: on the disk
  DiskChunk to;      // REQUIRES: reserved for the caller
};
// Copy each image chunk, valid or not, to its new place and record that.
Task<Status> MoveImageChunks(BlockDevice& device, MapStore& store,
                             std::span<const ImageMove> moves,
                             const MoverOptions& options = {});

// Sectors of the disk that an operation leaves alone, inside the chunks that it
// writes; the caller writes them itself, in its own order.
using SkippedSectors = std::span<const ByteExtent>;

// Copy the relocated `sources` back to their places and record it; the places
// leave the region.  What lies in `skip` stays as it is, and with `record`
// false nothing is recorded: a chunk of which part was skipped is not back yet.
// REQUIRES: nobody uses the places (they are reserved for the caller).
Task<Status> RestoreSource(BlockDevice& device, MapStore& store,
                           std::span<const DiskChunk> sources,
                           SkippedSectors skip = {}, bool record = true,
                           const MoverOptions& options = {});

// Compare each relocated source chunk with what is in its old place, all but
// what lies in `skip`.  The first that differs, or none.
Task<Result<std::optional<DiskChunk>>> FindChangedSource(
    BlockDevice& device, const MapStore& store, SkippedSectors skip = {});

// Write `data` at `offset`, all but what lies in `skip`.
Task<Status> WriteAround(BlockDevice& device, uint64_t offset,
                         std::span<const std::byte> data, SkippedSectors skip);

}  // namespace bootstream

#endif  // BLOCKMAP_DISK_MOVER_H_
