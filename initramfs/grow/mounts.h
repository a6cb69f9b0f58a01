#ifndef INITRAMFS_GROW_MOUNTS_H_
#define INITRAMFS_GROW_MOUNTS_H_

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "blockmap/base/result.h"

namespace bootstream {

// What is mounted, as /proc/PID/mountinfo says (proc(5)).
struct Mount {
  dev_t device = 0;    // of the file system; major 0: it has none of its own
  std::string point;   // directory
  std::string type;    // "ext4"
  std::string source;  // "/dev/vda3"
};

// Pure.  Lines that cannot be understood are left out.
std::vector<Mount> ParseMountInfo(std::string_view text);

// Those of this process, in the order in which they were mounted.  A file
// system like btrfs, whose device number is not its disk's, has its source's
// here.
Result<std::vector<Mount>> ReadMounts();

}  // namespace bootstream

#endif  // INITRAMFS_GROW_MOUNTS_H_
