#ifndef BLOCKMAP_MAP_CHECKPOINT_H_
#define BLOCKMAP_MAP_CHECKPOINT_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/types.h"
#include "blockmap/map/block_map.h"
#include "blockmap/map/journal.h"

// The whole map as one byte string (format.md 2.7), and what any state of it
// must keep to.  Pure.

namespace bootstream {

// The two grids that a map lies between.
struct MapLimits {
  Grid image;
  Grid disk;
  uint64_t whole_disk_chunks() const {
    return disk.size_bytes / disk.chunk_bytes;
  }
};

// kCorrupt, with a sentence, where the record names something that is not
// there or contradicts itself or `map`.
Status CheckRecord(const SetRecord& record, const MapLimits& limits);
Status CheckRecord(const RelocationRecord& record, const BlockMap& map,
                   const MapLimits& limits);
Status CheckRecord(const PatchRecord& record, const BlockMap& map,
                   const MapLimits& limits);
// Check, then change `map`.  A ContinueRecord changes nothing.
Status ApplyRecord(const Record& record, const MapLimits& limits,
                   BlockMap& map);

// Ascending, not touching, not empty, whole chunks; or all of the disk, of
// which the last chunk may be shorter.
Status CheckRegion(std::span<const DiskExtent> region, const MapLimits& limits);

// Without `source_kept` relocations are left out.
uint64_t CheckpointBytes(const BlockMap& map, uint64_t region_extent_count,
                         bool source_kept = true);
std::vector<std::byte> EncodeCheckpoint(const BlockMap& map,
                                        std::span<const DiskExtent> region,
                                        bool source_kept = true);

struct CheckpointContents {
  BlockMap map;
  std::vector<DiskExtent> region;
};
Result<CheckpointContents> DecodeCheckpoint(std::span<const std::byte> bytes,
                                            const MapLimits& limits);

}  // namespace bootstream

#endif  // BLOCKMAP_MAP_CHECKPOINT_H_
