#ifndef INITRAMFS_FRONTEND_FUSE_FRONTEND_H_
#define INITRAMFS_FRONTEND_FUSE_FRONTEND_H_

#include <memory>
#include <string>

#include "blockmap/base/block_service.h"
#include "blockmap/base/io_loop.h"
#include "initramfs/frontend/frontend.h"
#include "initramfs/frontend/kernel_device.h"
#include "initramfs/keeper/fd_store.h"

namespace bootstream {

struct FuseFrontendOptions {
  // Made if missing.  One front end at a time uses it: a second is
  // kUnavailable.
  std::string directory = "/run/bootstream/fuse";
  bool read_only = false;
  DeviceNotice notice;
  LogLine log;
  // Keeps the connection, where the kernel can send requests again: a process
  // that is started again goes on with the same device.
  FdStore* kept = nullptr;
};

// A loop device on a FUSE file: for kernels with neither ublk nor NBD.
//
// The mount is taken out of the tree as soon as the loop device holds the file:
// then nobody can unmount it by force at shutdown, and nothing but the loop
// device is left when the process dies.  The file is named after the directory,
// which is how Start finds and detaches the device of a dead predecessor that
// had no keeper; what used that device gets I/O errors.
std::unique_ptr<Frontend> MakeFuseFrontend(IoLoop& loop, BlockService& service,
                                           FuseFrontendOptions options);

}  // namespace bootstream

#endif  // INITRAMFS_FRONTEND_FUSE_FRONTEND_H_
