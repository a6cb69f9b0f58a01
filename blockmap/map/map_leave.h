#ifndef BLOCKMAP_MAP_MAP_LEAVE_H_
#define BLOCKMAP_MAP_MAP_LEAVE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "blockmap/base/block_device.h"
#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "blockmap/base/types.h"
#include "blockmap/map/superblock.h"

namespace bootstream {

// The end of a map (format.md 2.11): everything is at home, and what is left of
// us on the disk becomes zero.  Begun by MapStore::Leave; a power cut in it is
// finished from the anchor alone, before anybody uses the disk.  Blocking in
// the way of the device; may be called again.

// The bytes that become zero, besides the superblock chunks and the anchor.
inline constexpr uint64_t kLeftoversOffset = kSuperblockSlotsBytes;
inline constexpr uint64_t kLeftoversBytes = 53248;  // in every chunk size
inline constexpr uint64_t kLeftoversMax = (kLeftoversBytes - 32) / 16;

// kNoSpace: there are too many.
Result<std::vector<std::byte>> EncodeLeftovers(
    const Uuid& migration_id, std::span<const ByteExtent> ranges);
// kNotFound, kCorrupt: they are not there any more.
Result<std::vector<ByteExtent>> DecodeLeftovers(
    std::span<const std::byte> bytes, const Uuid& migration_id);

// Zero all that `anchor`, a leaving one at `offset`, leads to, then the anchor.
// After OK nothing of ours is on the disk, durably.
Task<Status> FinishLeaving(BlockDevice& disk, uint64_t offset,
                           const Anchor& anchor);

}  // namespace bootstream

#endif  // BLOCKMAP_MAP_MAP_LEAVE_H_
