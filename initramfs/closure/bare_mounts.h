#ifndef INITRAMFS_CLOSURE_BARE_MOUNTS_H_
#define INITRAMFS_CLOSURE_BARE_MOUNTS_H_

#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "initramfs/closure/boot_trees.h"

namespace bootstream {

// Show `trees` without what is mounted upon their file systems, as a boot loader
// sees them: the ESP at /boot/efi is not in the file system of /boot.  From then
// on this process has a mount namespace of its own, in which they are below
// `directory`; `local` of each says where.
Status ShowBare(const std::string& directory, std::vector<BootTree>& trees);

}  // namespace bootstream

#endif  // INITRAMFS_CLOSURE_BARE_MOUNTS_H_
