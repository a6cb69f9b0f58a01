#ifndef INITRAMFS_FRONTEND_NBD_FRONTEND_H_
#define INITRAMFS_FRONTEND_NBD_FRONTEND_H_

#include <memory>
#include <string>

#include "blockmap/nbd/nbd_session.h"
#include "initramfs/frontend/frontend.h"
#include "initramfs/frontend/kernel_device.h"
#include "initramfs/keeper/fd_store.h"

namespace bootstream {

struct NbdFrontendOptions {
  int index = -1;  // of /dev/nbdN; -1: a free one
  // Names the device to a later server of the same content.  If a device of
  // this name is connected when Start is called, its server has died: it is
  // taken over, users and waiting requests with it.  Empty: never taken over.
  std::string identifier;
  // After its server's death, requests wait so long for the next, then fail.
  uint64_t dead_connection_timeout_s = 2592000;  // 30 days
  // Requests that the dead server had in hand are sent again after at most
  // this.  The kernel also logs one line for each request at this interval
  // while it waits, as in a network outage.
  uint32_t reissue_ms = 5000;
  NbdOptions nbd;
  DeviceNotice notice;
  // Remembers the device for a process that is started again and can no longer
  // look into /sys.
  FdStore* kept = nullptr;
};

// Whether the kernel can do it; else kUnsupported, with what to do.
Status NbdIsThere();

// A block device by the kernel's NBD client, over a socket pair.  There is one
// connection on purpose: with several, the kernel takes a request that waits
// longer than its timer for a dead connection.
std::unique_ptr<Frontend> MakeNbdFrontend(IoLoop& loop, BlockService& service,
                                          NbdFrontendOptions options);

}  // namespace bootstream

#endif  // INITRAMFS_FRONTEND_NBD_FRONTEND_H_
