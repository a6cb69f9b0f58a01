#ifndef INITRAMFS_CLOSURE_BOOT_TREES_H_
#define INITRAMFS_CLOSURE_BOOT_TREES_H_

#include <map>
#include <string>
#include <vector>

#include "blockmap/base/result.h"

namespace bootstream {

// A file or a directory with all below it that a boot loader may read.
struct BootTree {
  int partition = 0;  // its number in the partition table
  std::string inside;  // how the boot loader calls it: /grub/fonts
  std::string name;    // how this system does: /boot/grub/fonts
  std::string local;   // where it is to be read
  std::string mount;   // where its file system is mounted
};

struct BootTreeOptions {
  std::string root = "/";  // the system that is to boot
  // Mounts whose device does not say which partition it is, as the driver's
  // partitions do.  For tests.
  std::map<std::string, int> partitions;
};

// All of /boot, and what its grub.cfg names in the root file system.  Empty:
// there is no GRUB here.  kUnsupported: one of them lies on no partition of the
// streamed disk.
Result<std::vector<BootTree>> FindBootTrees(const BootTreeOptions& options);

}  // namespace bootstream

#endif  // INITRAMFS_CLOSURE_BOOT_TREES_H_
