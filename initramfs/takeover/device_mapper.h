#ifndef INITRAMFS_TAKEOVER_DEVICE_MAPPER_H_
#define INITRAMFS_TAKEOVER_DEVICE_MAPPER_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "initramfs/takeover/kernel_partitions.h"

namespace bootstream {

// A device-mapper device that is one run of another device.  Bytes; multiples
// of 512.
struct LinearDevice {
  std::string name;  // "bootstream1"
  std::string uuid;  // "part1-BOOTSTREAM"
  dev_t below = 0;
  uint64_t start_bytes = 0;
  uint64_t size_bytes = 0;
  // udev makes no links for it and nobody looks into it.
  bool hidden = false;
};

// Make `device`, or find it as it was made before (a daemon that is started
// again).  One of that name with another table is kRefused.  Returns it once
// udev, if it runs, has done its work; size and table have been read back.
// libdevmapper keeps its state in globals: one thread at a time.
Result<BlockNode> MakeLinearDevice(const LinearDevice& device);

// Remove the device of this name; none is no error.
Status RemoveLinearDevice(const std::string& name);

// Exchanging what is below a device, while it is in use.  Nothing here waits
// for udev, which may itself wait for the device.

// The devices of ours whose whole table is one run of `below`, by their names.
// `suspended` ones too.
Result<std::vector<LinearDevice>> LinearDevicesOver(dev_t below);
// What `device` will be from its next resume on.
Status LoadLinearTable(const LinearDevice& device);
// Forget that again.
Status ClearLinearTable(const std::string& name);
// Hold back what comes, and wait for what is under way.
Status SuspendDevice(const std::string& name);
Status ResumeDevice(const std::string& name);
// `device`, which is one of LinearDevicesOver, gets its new size while it is in
// use.  The kernel holds requests back for that moment by itself, so that
// nothing of ours can wait for them; the file system is not frozen.
Status ResizeLinearDevice(const LinearDevice& device);
// When nobody has it open any more.
Status RemoveWhenClosed(const std::string& name);

}  // namespace bootstream

#endif  // INITRAMFS_TAKEOVER_DEVICE_MAPPER_H_
