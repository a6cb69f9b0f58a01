#ifndef BLOCKMAP_DISK_USER_DATA_H_
#define BLOCKMAP_DISK_USER_DATA_H_

#include <cstdint>
#include <span>
#include <string>

#include "blockmap/base/result.h"
#include "blockmap/base/types.h"

namespace bootstream {

// What the folders of the people who use a system take: those that `streamctl
// source import` copies if it is told nothing else.
struct UserData {
  uint64_t bytes = 0;  // in whole blocks of 4 KiB; a file of many names once
  uint64_t files = 0;  // and directories
};

// Of the ext file systems in `partitions` of `disk`, which nobody has mounted:
// home/* and Users/* of each, and of one that is mounted at /home (a system
// among them knows its users).  Reads only.  kUnsupported: one that libext2fs
// does not know; kCorrupt: a damaged one.
Result<UserData> MeasureUserData(const std::string& disk,
                                 std::span<const ByteExtent> partitions);

}  // namespace bootstream

#endif  // BLOCKMAP_DISK_USER_DATA_H_
