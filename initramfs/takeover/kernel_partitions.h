#ifndef INITRAMFS_TAKEOVER_KERNEL_PARTITIONS_H_
#define INITRAMFS_TAKEOVER_KERNEL_PARTITIONS_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "blockmap/base/result.h"

namespace bootstream {

// What sysfs says about one block device.  Sizes are bytes.
struct BlockNode {
  std::string name;  // "vda", "dm-0"
  std::string path;  // "/dev/vda"
  dev_t number = 0;
  uint64_t size_bytes = 0;
};

// The block device at `path`, links followed.  kInvalid if it is none.
Result<BlockNode> FindBlockNode(const std::string& path);

// The numbers of the partitions that the kernel has for `disk`, ascending.
Result<std::vector<int>> KernelPartitions(const BlockNode& disk);

// Partition `number` of `disk` has so many bytes from now on; it may be in use
// (BLKPG_RESIZE_PARTITION).  The table on the disk is not touched.
Status ResizeKernelPartition(const BlockNode& disk, int number,
                             uint64_t start_bytes, uint64_t size_bytes);

// Take every partition of `disk` out of the kernel; the table on the disk is
// not touched (BLKPG, see linux/blkpg.h).  A partition that stays in use is
// kRefused, with its name; those before it are gone then.  The disk is opened
// for reading only: closing a writable descriptor would have udev bring the
// partitions back.
Status DropKernelPartitions(const BlockNode& disk);

}  // namespace bootstream

#endif  // INITRAMFS_TAKEOVER_KERNEL_PARTITIONS_H_
