#ifndef BLOCKMAP_DISK_FIND_MIGRATION_H_
#define BLOCKMAP_DISK_FIND_MIGRATION_H_

#include <optional>
#include <string>
#include <vector>

#include "blockmap/base/block_device.h"
#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "blockmap/map/superblock.h"

namespace bootstream {

// What the fixed places of a disk say about a migration.
struct FoundMigration {
  // The newest superblock; empty: there is no migration that anchor or stub
  // leads to.
  std::optional<Superblock> superblock;
  bool by_stub = false;  // found through LBA 0: neither system may start
  std::vector<std::string> warnings;  // anchors that belong elsewhere
  // A migration that had settled was leaving: nothing of it counts any more,
  // but what is left is to be zeroed before the disk is used (FinishLeaving).
  struct Leaving {
    uint64_t offset = 0;  // of the anchor
    Anchor anchor;
  };
  std::optional<Leaving> leaving;
  // Set if there is no superblock, and yet a migration may be there: an anchor
  // is damaged or cannot be read, or the partition table is not one that a
  // living migration knows.  The disk must not be used as it is, or migrated
  // anew, until a person has decided.
  std::optional<Error> doubt;
};

// The superblock, or nothing; a doubt is an error, and so is one that is
// leaving: its disk is not to be touched before it is gone (kRefused).
Result<std::optional<Superblock>> WithoutDoubt(const FoundMigration& found);

// Read the anchor candidates in the order A, B, A (the mark by which a traced
// boot shows that the driver has taken over), then LBA 0 and 1, and follow what
// matches this disk (format.md 2.2).  `serial_sha256`: of this disk; zeroes if
// it has none.  kRefused: two different migrations claim the disk;
// kUnsupported: a newer format; kCorrupt: an anchor without its superblock;
// kIo: the disk's first sectors cannot be read.
Task<Result<FoundMigration>> FindMigration(BlockDevice& disk,
                                           const Sha256& serial_sha256);

}  // namespace bootstream

#endif  // BLOCKMAP_DISK_FIND_MIGRATION_H_
