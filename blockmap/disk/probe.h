#ifndef BLOCKMAP_DISK_PROBE_H_
#define BLOCKMAP_DISK_PROBE_H_

#include <optional>
#include <string>
#include <vector>

#include "blockmap/base/block_device.h"
#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "blockmap/disk/partition_table.h"
#include "blockmap/map/superblock.h"

// What is on a disk: partitions, and what libblkid finds in them.  Reads only.

namespace bootstream {

// What libblkid says of one range of the disk.
struct Content {
  std::string type;  // "ext4", "vfat", "crypto_LUKS", ...; empty: nothing known
  std::string usage;  // "filesystem", "raid", "crypto", "other"
  std::string uuid;
  std::string label;
  bool ambiguous = false;  // signatures of more than one thing
};

// What an ext2, ext3 or ext4 file system says of itself.
struct ExtFacts {
  uint64_t block_bytes = 0;
  uint64_t block_count = 0;
  Uuid uuid{};
  bool clean = false;  // unmounted in order, no journal to recover, no errors
  bool has_extents = false;
  uint64_t size_bytes() const { return block_count * block_bytes; }
};

struct ProbedPartition {
  Partition partition;
  Content content;
  std::optional<ExtFacts> ext;  // if content.type is ext2, ext3 or ext4
};

struct ProbedDisk {
  std::string path;
  DiskIdentity identity;
  PartitionTable table;
  Content whole;  // what the disk holds besides a table: an LVM volume, ...
  std::vector<ProbedPartition> partitions;
};

// `serial`: for a disk file, which has none; empty: the kernel's.
// kUnsupported: a sector size that is not 512.
Task<Result<ProbedDisk>> ProbeDisk(const std::string& path, BlockDevice& device,
                                   const std::string& serial = {});

// SHA-256 of the serial number, as DiskIdentity keeps it: of `serial`, or of
// the disk's own if that is empty.
Sha256 SerialDigest(const std::string& path, const std::string& serial);

// format.md 2.9, of the ext file system that begins at `fs_offset`.
Task<Result<Sha256>> SourceFingerprint(BlockDevice& device, uint64_t fs_offset);

// kRefused if the disk, a partition of it, or a loop device on it is mounted or
// claimed by anybody but ourselves.  To be asked before the disk is claimed.
Status CheckNotInUse(const std::string& path);

// Disks that a migration can be meant for when none is named: whole block
// devices, not removable, not virtual.
std::vector<std::string> CandidateDisks();

}  // namespace bootstream

#endif  // BLOCKMAP_DISK_PROBE_H_
