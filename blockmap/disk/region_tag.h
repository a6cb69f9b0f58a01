#ifndef BLOCKMAP_DISK_REGION_TAG_H_
#define BLOCKMAP_DISK_REGION_TAG_H_

#include <array>
#include <span>
#include <string>

#include "blockmap/base/result.h"
#include "blockmap/base/types.h"
#include "blockmap/map/superblock.h"

// Whose map lies in the region file: its extended attribute (format.md 2.10).
// What else looks like a superblock in there is of an earlier migration, in
// space that was free since.

namespace bootstream {

struct RegionTag {
  uint32_t chunk_bytes = kChunkBytesDefault;
  Uuid migration_id{};
  SuperblockChunks superblock_chunks{};  // where they were at first
};

inline constexpr char kRegionTagName[] = "trusted.bootstream";
inline constexpr size_t kRegionTagBytes = 56;

std::array<std::byte, kRegionTagBytes> EncodeRegionTag(const RegionTag& tag);
// kNotFound: no tag, or a blank one; kCorrupt: one that is damaged;
// kUnsupported: newer.
Result<RegionTag> DecodeRegionTag(std::span<const std::byte> bytes);

// Make the tag of an open file blank.  A tag that is written later takes its
// room, so that it needs none.
Status BlankRegionTag(int fd);

// Mount the ext4 file system in `partition` of `disk`, give the file `name` in
// its root that tag, durably, and unmount.
Status WriteRegionTag(const std::string& disk, ByteExtent partition,
                      const std::string& name, const RegionTag& tag);

// The tag of the file `name` in the root of an unmounted ext4, by libext2fs.
Result<RegionTag> ReadRegionTag(const std::string& disk, ByteExtent partition,
                                const std::string& name);

}  // namespace bootstream

#endif  // BLOCKMAP_DISK_REGION_TAG_H_
