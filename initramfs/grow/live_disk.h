#ifndef INITRAMFS_GROW_LIVE_DISK_H_
#define INITRAMFS_GROW_LIVE_DISK_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "initramfs/takeover/kernel_partitions.h"

// A disk that is in use and its partitions as the kernel has them now: its own,
// or, where a driver has left without a restart, linear devices over the raw
// disk (initramfs/takeover).  Blocking; libdevmapper: one thread at a time.

namespace bootstream {

struct LivePartition {
  BlockNode node;
  uint64_t start_bytes = 0;
  int number = 0;      // the kernel's own partition of that number; or 0, and
  std::string mapped;  // the linear device of that name
};

struct LiveDisk {
  BlockNode node;
  std::vector<LivePartition> partitions;

  // The one that begins there; nullptr: none does.
  const LivePartition* StartingAt(uint64_t start_bytes) const;
};

// The disk below the file system that is mounted at `mount_point`.  kNotFound:
// nothing is, or no disk is below it.  kUnsupported: it lies on something other
// than a partition.  kRefused: a driver has the disk.
Result<LiveDisk> FindDiskBelow(const std::string& mount_point);

// Tell the kernel that `partition` has so many bytes now.  It may be in use.
Status ResizeLivePartition(const LiveDisk& disk, const LivePartition& partition,
                           uint64_t size_bytes);

}  // namespace bootstream

#endif  // INITRAMFS_GROW_LIVE_DISK_H_
