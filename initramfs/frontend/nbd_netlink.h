#ifndef INITRAMFS_FRONTEND_NBD_NETLINK_H_
#define INITRAMFS_FRONTEND_NBD_NETLINK_H_

#include <cstdint>
#include <memory>
#include <string>

#include "blockmap/base/result.h"

struct nl_sock;
struct nl_msg;

namespace bootstream {

// Orders to the kernel's NBD client by generic netlink (linux/nbd-netlink.h;
// drivers/block/nbd.c of Linux 6.1 and 6.12).  Blocking; one thread at a time.
class NbdNetlink {
 public:
  struct Device {
    int index = -1;   // -1: the kernel chooses
    int socket = -1;  // the kernel's end of the connection; not owned
    // A name by which a restarted server finds its device; may be empty.
    std::string identifier;
    uint64_t size_bytes = 0;
    uint32_t block_bytes = 512;  // logical
    uint64_t flags = 0;          // transmission flags
    // How long requests wait for a new server when the last has died.
    uint64_t dead_connection_timeout_s = 0;
  };

  // What the kernel said to one order.
  struct Answer {
    bool done = false;
    int error = 0;   // 0, or minus errno
    int index = -1;  // of the device, where it tells one
  };

  // kUnsupported where the kernel has no NBD client.
  static Result<NbdNetlink> Open();

  // A new device; its index.
  Result<int> Connect(const Device& device);
  // A new socket for a device whose server has died; requests that were under
  // way are sent again.  While the old socket is not known to be dead, the
  // kernel drops the new one and calls that OK.  kNotFound if there is no such
  // device.
  Status Reconfigure(const Device& device);
  // End a device, whoever uses it.
  Status Disconnect(int index);

 private:
  struct FreeSocket {
    void operator()(nl_sock* socket) const;
  };
  struct FreeMessage {
    void operator()(nl_msg* message) const;
  };
  using Message = std::unique_ptr<nl_msg, FreeMessage>;

  NbdNetlink(std::unique_ptr<nl_sock, FreeSocket> socket, int family)
      : socket_(std::move(socket)), family_(family) {}
  Result<Message> NewMessage(int command) const;
  // Send, and wait for the kernel's word.
  Answer Ask(Message message);

  std::unique_ptr<nl_sock, FreeSocket> socket_;
  int family_;
};

}  // namespace bootstream

#endif  // INITRAMFS_FRONTEND_NBD_NETLINK_H_
