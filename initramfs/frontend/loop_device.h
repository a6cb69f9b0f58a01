#ifndef INITRAMFS_FRONTEND_LOOP_DEVICE_H_
#define INITRAMFS_FRONTEND_LOOP_DEVICE_H_

#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "initramfs/frontend/kernel_device.h"

// Loop devices, by the ioctls of loop(4).  Everything blocks, and reads or
// flushes the file behind: never call it on the thread that serves that file.

namespace bootstream {

struct LoopOptions {
  bool read_only = false;
  // The part of the file; 0 bytes: up to its end.
  uint64_t offset_bytes = 0;
  uint64_t size_bytes = 0;
  DeviceNotice notice;
};

// Put a free loop device on the file open as `fd`: direct I/O, 512-byte
// sectors, no partition scan.  Its name ("loop0").
Result<std::string> AttachLoop(int fd, const LoopOptions& options);

// Write back, detach, and wait until the kernel has let go of the file.
// kRefused while the device, which lies in the directory `dev`, is in use.
Status DetachLoop(int dev, const std::string& name);

// Detach, whoever uses it: for a device whose file has died.  It goes when its
// last user does.
Status AbandonLoop(const std::string& name);

// Names of the loop devices whose file is called `path`, as the kernel tells.
std::vector<std::string> FindLoops(const std::string& path);

}  // namespace bootstream

#endif  // INITRAMFS_FRONTEND_LOOP_DEVICE_H_
