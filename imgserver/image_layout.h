#ifndef IMGSERVER_IMAGE_LAYOUT_H_
#define IMGSERVER_IMAGE_LAYOUT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/disk/partition_table.h"
#include "imgserver/disk_image.h"

namespace bootstream {

// What of an image its firmware and boot loader need, found by looking at it.
struct ImageLayout {
  PartitionTable table;
  // ESP, /boot and BIOS boot partitions, or the root partition where /boot lies
  // in it: what is written there must go home.
  std::vector<ByteExtent> pinned;
  // What the loader reads of that one only a watched boot can tell.
  bool boot_in_root = false;
  // In use by these, each partition's superblock, and boot code between the
  // partitions; in no order.
  std::vector<ByteExtent> boot;
};

// `boot_partition`: the number of the /boot partition; else found by its type
// or its root directory.  kRefused, in one sentence, for an image that we
// cannot make boot: no partition table, partitions not aligned to 4 KiB,
// nothing to boot from.
Result<ImageLayout> ReadLayout(const DiskImage& image, const Grid& grid,
                               std::optional<uint32_t> boot_partition);

}  // namespace bootstream

#endif  // IMGSERVER_IMAGE_LAYOUT_H_
