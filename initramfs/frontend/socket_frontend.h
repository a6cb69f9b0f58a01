#ifndef INITRAMFS_FRONTEND_SOCKET_FRONTEND_H_
#define INITRAMFS_FRONTEND_SOCKET_FRONTEND_H_

#include <memory>
#include <string>

#include "blockmap/nbd/nbd_server.h"
#include "initramfs/frontend/frontend.h"
#include "initramfs/keeper/fd_store.h"

namespace bootstream {

struct SocketFrontendOptions {
  std::string path;  // of the Unix socket
  NbdOptions nbd;
  // Keeps the listening socket: clients can connect while we are restarted.
  FdStore* kept = nullptr;
};

// NBD on a Unix socket, for fio, nbdcopy, qemu and the like.  Stop hangs up
// on clients; it never refuses.
std::unique_ptr<Frontend> MakeSocketFrontend(IoLoop& loop,
                                             BlockService& service,
                                             SocketFrontendOptions options);

}  // namespace bootstream

#endif  // INITRAMFS_FRONTEND_SOCKET_FRONTEND_H_
