#ifndef INITRAMFS_FRONTEND_UBLK_FRONTEND_H_
#define INITRAMFS_FRONTEND_UBLK_FRONTEND_H_

#include <memory>

#include "blockmap/base/block_service.h"
#include "blockmap/base/io_loop.h"
#include "initramfs/frontend/frontend.h"
#include "initramfs/frontend/kernel_device.h"
#include "initramfs/frontend/ublk_control.h"
#include "initramfs/keeper/fd_store.h"

namespace bootstream {

struct UblkFrontendOptions {
  bool read_only = false;
  // Names the device to a later server of the same content; 0: never taken
  // over.  If a device of this name is there when Start is called, its server
  // has died, and the kernel has kept what it had in hand.
  uint64_t name = 0;
  DeviceNotice notice;
  LogLine log;
  // Remembers the device for a process that is started again.
  FdStore* kept = nullptr;
};

// Whether the kernel can do it; else kUnsupported, with what to do.
Status UblkIsThere();

// A block device by the kernel's ublk driver (Linux 6.5 and later): requests
// and answers go by io_uring, without a socket.  Up to four queues, by the
// number of processors, and all of them the loop's.  The kernel makes no
// partitions of it.
std::unique_ptr<Frontend> MakeUblkFrontend(IoLoop& loop, BlockService& service,
                                           UblkFrontendOptions options);

}  // namespace bootstream

#endif  // INITRAMFS_FRONTEND_UBLK_FRONTEND_H_
