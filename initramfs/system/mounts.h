#ifndef INITRAMFS_SYSTEM_MOUNTS_H_
#define INITRAMFS_SYSTEM_MOUNTS_H_

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "blockmap/base/result.h"

namespace bootstream {

// A line of /proc/self/mountinfo (proc(5)).
struct MountPoint {
  dev_t device = 0;    // of the file system; major 0: it has none of its own
  std::string where;   // /boot
  std::string root;    // what of the file system is there: /, /@rootfs
  std::string type;    // ext4
  std::string source;  // /dev/dm-2
};

// Lines that cannot be understood are left out.
std::vector<MountPoint> ParseMounts(std::string_view mountinfo);
// Of this process, in the order in which they were mounted.  A file system like
// btrfs, whose device number is not its disk's, has its source's here.
Result<std::vector<MountPoint>> ReadMounts();

// The one that `path` (absolute, without links) lies on; null: none.
const MountPoint* MountOf(const std::vector<MountPoint>& mounts,
                          std::string_view path);

// How the file system itself calls `path`, which lies on `mount`.
std::string PathInside(const MountPoint& mount, std::string_view path);
// The other way; empty: it is not to be seen there.
std::string PathOutside(const MountPoint& mount, std::string_view inside);

}  // namespace bootstream

#endif  // INITRAMFS_SYSTEM_MOUNTS_H_
