#ifndef INITRAMFS_FRONTEND_KERNEL_DEVICE_H_
#define INITRAMFS_FRONTEND_KERNEL_DEVICE_H_

#include <cstdint>
#include <functional>
#include <string>

#include "blockmap/base/result.h"
#include "blockmap/base/unique_fd.h"
#include "initramfs/keeper/fd_store.h"

// Block devices of the kernel by name ("nbd0", "loop3").  Blocking.  What is in
// /sys/block: Documentation/ABI/stable/sysfs-block of the kernel.

namespace bootstream {

// Told what a device will be called, before anybody else hears of it, and again
// with `comes` false if it does not come to be, or is gone.  An error keeps it
// from being made.  Called on a thread that may block.
using DeviceNotice = std::function<Status(const std::string& name, bool comes)>;

// The same where `notice` may be empty.
Status GiveNotice(const DeviceNotice& notice, const std::string& name,
                  bool comes);

std::string DevicePath(const std::string& name);

// One line of /sys/block/NAME/ATTRIBUTE without its newline.
Result<std::string> ReadDeviceAttribute(const std::string& name,
                                        const std::string& attribute);
Status WriteDeviceAttribute(const std::string& name,
                            const std::string& attribute,
                            const std::string& value);

// kInvalid unless a block device can have that size.
Status CheckWholeSectors(uint64_t size_bytes);

// kIo unless the kernel gives the device exactly `size_bytes`: a device that
// is not connected has size 0, and must not be taken for one.
Status CheckDeviceSize(const std::string& name, uint64_t size_bytes);

// The directory /dev, as an earlier life of this process has kept it: after
// switch_root there is no such path for us.  `kept` may be nullptr.
Result<UniqueFd> OpenDev(FdStore* kept);

// Write the kernel's cached pages of the device, which lies in the directory
// `dev`, to it.  The descriptor keeps others from mounting or claiming it;
// kRefused when somebody has already.
Result<UniqueFd> ClaimAndFlushDevice(int dev, const std::string& name);

}  // namespace bootstream

#endif  // INITRAMFS_FRONTEND_KERNEL_DEVICE_H_
