#ifndef INITRAMFS_TAKEOVER_UDEV_STATE_H_
#define INITRAMFS_TAKEOVER_UDEV_STATE_H_

#include <string>
#include <string_view>
#include <vector>

#include "blockmap/base/result.h"
#include "initramfs/takeover/kernel_partitions.h"

namespace bootstream {

// What we tell udev through files in /run/bootstream/udev, one for a device,
// which initramfs/udev/59-bootstream.rules imports.  They outlive the
// initramfs: the rules of the real root read the same files.
//
//   BOOTSTREAM_ROLE=disk|claim|streamed|partition|source
//   BOOTSTREAM_LINKS=disk/by-id/... disk/by-path/...    (below /dev)

// Whether a udevd is there to be waited for.
bool UdevIsRunning();

// The by-id and by-path links that udev has made for `disk`, without "/dev/".
// Empty if udev does not know it.
Result<std::vector<std::string>> StableLinks(const BlockNode& disk);

// Write the file for `name`: a kernel name or, for device-mapper, its name.
Status WriteUdevRole(const std::string& name, std::string_view role,
                     const std::vector<std::string>& links);
// The links in the file for `name`; kNotFound if there is no file.
Result<std::vector<std::string>> ReadUdevLinks(const std::string& name);
void RemoveUdevRole(const std::string& name);

// Have udev look at `device` again and wait until it has.  Without a udevd
// nothing happens.
Status RefreshUdev(const BlockNode& device);

}  // namespace bootstream

#endif  // INITRAMFS_TAKEOVER_UDEV_STATE_H_
