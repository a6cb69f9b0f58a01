#ifndef BLOCKMAP_DISK_USED_EXTENTS_H_
#define BLOCKMAP_DISK_USED_EXTENTS_H_

#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/types.h"

namespace bootstream {

// What a file system has in use, and what an ext one has free: ext2, ext3 and
// ext4 (libext2fs), FAT12, FAT16 and FAT32 (Microsoft "FAT: General Overview of
// On-Disk Format" 1.03).

// The byte ranges of the disk (or disk file) `path` that the file system in
// `partition` uses, its own metadata included; ascending, not touching, as
// offsets in `path`.  The file system must not be mounted read-write.
// kUnsupported: another file system, or none; kCorrupt: it is damaged.
Result<std::vector<ByteExtent>> UsedExtents(const std::string& path,
                                            ByteExtent partition);

// The two halves, for a caller that knows what it has.
Result<std::vector<ByteExtent>> UsedExtExtents(const std::string& path,
                                               ByteExtent partition);
Result<std::vector<ByteExtent>> UsedFatExtents(const std::string& path,
                                               ByteExtent partition);

// What the block bitmap of an ext file system says is free, in the same form.
Result<std::vector<ByteExtent>> FreeExtExtents(const std::string& path,
                                               ByteExtent partition);

// Append `extent` to an ascending list, joining it to the last one if they
// touch.  REQUIRES: extent.offset >= list.back().end().
void AppendExtent(std::vector<ByteExtent>& list, ByteExtent extent);

}  // namespace bootstream

#endif  // BLOCKMAP_DISK_USED_EXTENTS_H_
