#ifndef IMGSERVER_BOOT_DIRECTORY_H_
#define IMGSERVER_BOOT_DIRECTORY_H_

#include <string>

#include "blockmap/base/result.h"
#include "blockmap/base/types.h"

namespace bootstream {

// Where an ext file system keeps what a boot loader reads.
enum class BootDirectory {
  kNone,
  kRoot,    // its root directory is a /boot
  kInside,  // its directory /boot has something in it: a root file system
};

// Look at the root directory and at /boot: a folder `grub`, or a plain file
// `vmlinuz*` (Debian's root file system has a link of that name), tells.
// kUnsupported: no ext file system.
Result<BootDirectory> FindBootDirectory(const std::string& path,
                                        ByteExtent partition);

}  // namespace bootstream

#endif  // IMGSERVER_BOOT_DIRECTORY_H_
