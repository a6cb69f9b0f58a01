#ifndef INITRAMFS_TAKEOVER_STREAMED_PARTITIONS_H_
#define INITRAMFS_TAKEOVER_STREAMED_PARTITIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "blockmap/base/result.h"

namespace bootstream {

struct StreamedPartition {
  int number = 0;  // as the kernel would number it: 1, 2, 5, ...
  uint64_t start_bytes = 0;
  uint64_t size_bytes = 0;
};

// The partitions that libblkid finds in the table on the block device or file
// at `path`; extended MBR partitions, which only contain others, are left out.
// No table is kNotFound; a partition that ends after the device is kCorrupt.
// Blocking reads.
Result<std::vector<StreamedPartition>> ReadStreamedPartitions(
    const std::string& path);

}  // namespace bootstream

#endif  // INITRAMFS_TAKEOVER_STREAMED_PARTITIONS_H_
