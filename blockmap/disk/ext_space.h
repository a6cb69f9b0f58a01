#ifndef BLOCKMAP_DISK_EXT_SPACE_H_
#define BLOCKMAP_DISK_EXT_SPACE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/types.h"

namespace bootstream {

// What room an unmounted ext4 file system has for a file, as its own driver
// would count.  Offsets and sizes in bytes on the disk.
struct ExtSpace {
  // Why no file can be made in it or grow, as the end of a sentence that begins
  // with its name: "is marked read-only"; empty: nothing is in the way.
  std::string obstacle;
  // What its bitmap says is free; ascending, not touching.
  std::vector<ByteExtent> free;
  // What the file that was asked for has already, as FileExtents.
  std::vector<ByteExtent> file;
  // What the driver holds back even from root, and what the map of a file in
  // all the pieces of `free` would take.
  uint64_t reserve_bytes = 0;
  uint64_t free_bytes() const;
  uint64_t file_bytes() const;
};

// Of the file system in `partition` of `disk` and the file `name` in its root,
// which need not be there.  Reads only.  kUnsupported: no ext file system, or
// one that libext2fs does not know; kCorrupt: a damaged one.
// Source: ext4 (kernel documentation, "special inodes", "super block"), and for
// what is held back ext4_calculate_resv_clusters in the kernel's fs/ext4.
Result<ExtSpace> ReadExtSpace(const std::string& disk, ByteExtent partition,
                              const std::string& name);

}  // namespace bootstream

#endif  // BLOCKMAP_DISK_EXT_SPACE_H_
