#ifndef INITRAMFS_GROW_GROW_H_
#define INITRAMFS_GROW_GROW_H_

#include <cstdint>
#include <string>

#include "blockmap/base/result.h"
#include "initramfs/grow/live_disk.h"

// Table, last partition and its file system take up the whole disk, while they
// are in use.  In this order, each durable before the next: the table on the
// disk (table_growth.h), the kernel's partition, the file system, by its own
// tool. Whatever stops it, doing it again goes on; what is done is not done
// twice.

namespace bootstream {

struct GrowReport {
  std::string disk;
  uint64_t disk_bytes = 0;
  bool table_grows = false;  // it was not as it is to be
  // The last partition of the disk; 0: there is none.
  uint32_t partition = 0;
  uint64_t partition_bytes_before = 0;  // as the kernel had it
  uint64_t partition_bytes = 0;
  // Why the partition and what is in it are left alone; or empty, and
  std::string left_alone;
  std::string file_system;  // "ext4"
  std::string mounted_at;
  uint64_t file_system_bytes_before = 0;
  uint64_t file_system_bytes = 0;
};

enum class GrowMode { kDo, kDryRun };

// Blocking.  A last partition that is not mounted, or whose file system cannot
// grow while it is (other than ext4, xfs, btrfs), is left alone; the table
// takes up the disk all the same.  kUnsupported: sectors of other than 512
// bytes, or a logical partition; kNotFound: the file system's tool is not
// installed.  In a dry run nothing changes, and sizes are what they would
// become, but for the file system's.  REQUIRES: no migration is on the disk.
Result<GrowReport> GrowDisk(const LiveDisk& disk, GrowMode mode);

}  // namespace bootstream

#endif  // INITRAMFS_GROW_GROW_H_
