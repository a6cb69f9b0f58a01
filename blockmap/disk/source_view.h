#ifndef BLOCKMAP_DISK_SOURCE_VIEW_H_
#define BLOCKMAP_DISK_SOURCE_VIEW_H_

#include "blockmap/base/block_device.h"
#include "blockmap/base/task.h"
#include "blockmap/base/types.h"
#include "blockmap/map/block_map.h"

namespace bootstream {

// The disk as the source left it: chunks that were relocated are read from
// where they are now.  What lies in the region is not the source's and reads as
// it is.  Read-only: a write is kRefused.  Device and map must outlive it; the
// map may change between requests, not during one.
class SourceView final : public BlockDevice {
 public:
  SourceView(BlockDevice& device, const BlockMap& map, Grid disk_grid)
      : device_(device), map_(map), grid_(disk_grid) {}

  void Submit(IoRequest& request) override;
  uint64_t size_bytes() const override { return device_.size_bytes(); }

 private:
  Task<void> Serve(IoRequest& request);

  BlockDevice& device_;
  const BlockMap& map_;
  Grid grid_;
};

}  // namespace bootstream

#endif  // BLOCKMAP_DISK_SOURCE_VIEW_H_
