#ifndef BLOCKMAP_DISK_SOURCE_VIEW_H_
#define BLOCKMAP_DISK_SOURCE_VIEW_H_

#include "blockmap/base/read_only_device.h"
#include "blockmap/map/block_map.h"

namespace bootstream {

// The disk as the source left it: chunks that were relocated are read from
// where they are now.  What lies in the region is not the source's and reads as
// it is.  Device and map must outlive it; the map may change at any time: a
// read that a relocation overtakes is made again.
class SourceView final : public ReadOnlyDevice {
 public:
  SourceView(BlockDevice& device, const BlockMap& map, const Grid& disk_grid)
      : ReadOnlyDevice(disk_grid), device_(device), map_(map) {}

 private:
  DiskChunk PlaceOf(DiskChunk source) const;
  Task<Status> ReadInside(uint64_t chunk, uint64_t offset,
                          std::span<std::byte> out) override;

  BlockDevice& device_;
  const BlockMap& map_;
};

}  // namespace bootstream

#endif  // BLOCKMAP_DISK_SOURCE_VIEW_H_
