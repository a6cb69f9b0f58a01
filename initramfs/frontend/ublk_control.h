#ifndef INITRAMFS_FRONTEND_UBLK_CONTROL_H_
#define INITRAMFS_FRONTEND_UBLK_CONTROL_H_

#include <liburing.h>
#include <linux/ublk_cmd.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/unique_fd.h"

// Making and unmaking block devices of the kernel's ublk driver.  Source:
// Documentation/block/ublk.rst and include/uapi/linux/ublk_cmd.h of Linux 6.12,
// of which Debian 12's header lacks a part.

namespace bootstream {

// Of ublksrv_ctrl_dev_info::flags.
inline constexpr uint64_t kUblkUserRecovery = uint64_t{1} << 3;
inline constexpr uint64_t kUblkUserRecoveryReissue = uint64_t{1} << 4;
inline constexpr uint64_t kUblkIoctlEncode = uint64_t{1} << 6;
inline constexpr uint64_t kUblkUserCopy = uint64_t{1} << 7;

// What we need: requests are copied by pread and pwrite on the character device
// (Linux 6.5), and outlive their server.
inline constexpr uint64_t kUblkFlags = kUblkUserRecovery |
                                       kUblkUserRecoveryReissue |
                                       kUblkIoctlEncode | kUblkUserCopy;

struct UblkDevice {
  uint64_t size_bytes = 0;
  bool read_only = false;
  uint16_t queues = 1;
  uint16_t queue_depth = 128;
  uint32_t request_bytes_max = 256 << 10;
  // Names the device to a later server of the same content.
  uint64_t name = 0;
};

// Blocking: the kernel waits for the device's server in some of these.  One
// thread at a time.
class UblkControl {
 public:
  // `dev`: the directory /dev.  kUnsupported: the driver is not there, or lacks
  // what we need.
  static Result<std::unique_ptr<UblkControl>> Open(int dev);
  ~UblkControl();
  UblkControl(const UblkControl&) = delete;
  UblkControl& operator=(const UblkControl&) = delete;

  // A device that is not started yet; the kernel may give it fewer queues.
  Result<ublksrv_ctrl_dev_info> Add(const UblkDevice& device);
  // Its server must have fetched; the kernel reads the device now.
  Status Start(uint32_t id);
  // What is in hand is answered, everything after is an error.
  Status Stop(uint32_t id);
  // Waits until nobody has the character device or the block device open.
  Status Delete(uint32_t id);
  Result<ublksrv_ctrl_dev_info> Info(uint32_t id);
  Result<uint64_t> SizeBytes(uint32_t id);
  // The devices of earlier servers that called them `name`.
  std::vector<ublksrv_ctrl_dev_info> Find(uint64_t name);

  // After the old server's death: the new one may fetch (kUnavailable while the
  // old one is still there), and, when it has, the device goes on.
  Status StartRecovery(uint32_t id);
  Status EndRecovery(uint32_t id);

 private:
  UblkControl() = default;
  // Minus errno, or what the driver says.
  int Do(uint32_t operation, ublksrv_ctrl_cmd command);
  Result<uint64_t> Features();

  UniqueFd fd_;
  io_uring ring_{};
  bool ring_ready_ = false;
};

std::string UblkBlockName(uint32_t id);  // "ublkb0"
std::string UblkCharName(uint32_t id);   // "ublkc0"

}  // namespace bootstream

#endif  // INITRAMFS_FRONTEND_UBLK_CONTROL_H_
