#ifndef INITRAMFS_DRIVER_SIDE_DEVICE_H_
#define INITRAMFS_DRIVER_SIDE_DEVICE_H_

#include <memory>
#include <string>

#include "blockmap/base/io_loop.h"
#include "blockmap/base/block_service.h"
#include "blockmap/base/types.h"
#include "initramfs/driver/frontend_kind.h"
#include "initramfs/frontend/frontend.h"
#include "initramfs/frontend/kernel_device.h"
#include "initramfs/keeper/fd_store.h"

namespace bootstream {

struct SideDeviceOptions {
  // One word: what it shows.  Names the device of the kernel, with `migration`.
  std::string purpose;
  FrontendKind frontend = FrontendKind::kSocket;  // not kAuto
  std::string socket;                             // kSocket
  std::string mount_directory;                    // kFuse
  Uuid migration{};
  // Told of a device of the kernel: udev must take it for nobody's.
  DeviceNotice notice;
  LogLine log;
};

// A second device beside the streamed one, read-only, by a front end of its own
// while somebody wants it.  Thread of the loop.  Everything given must outlive
// it.
class SideDevice {
 public:
  // `kept`: a branch of its own of the keeper's store.
  SideDevice(IoLoop& loop, BlockService& service, FdStore kept,
             SideDeviceOptions options);

  // Go on with what a worker before us has served.  What cannot be taken up is
  // not attached any more; the log says why.
  Task<void> Resume();

  struct Attached {
    std::string path;  // of the socket or block device
    bool already = false;
  };
  Task<Result<Attached>> Attach();
  // OK if it is not attached.  kRefused: the device is in use, and stays.
  Task<Status> Detach();

  // From the beginning of Attach to the end of Detach.
  bool in_use() const { return attaching_ > 0 || frontend_ != nullptr; }
  // Empty: not attached.
  const std::string& path() const { return path_; }

 private:
  std::unique_ptr<Frontend> MakeFrontend();
  Task<Status> Start();
  Status KeepIntent();
  uint64_t Name() const;

  IoLoop& loop_;
  BlockService& service_;
  FdStore kept_;
  const SideDeviceOptions options_;
  AsyncSharedMutex mutex_;  // attaching, detaching
  int attaching_ = 0;
  std::unique_ptr<Frontend> frontend_;
  std::string path_;
};

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_SIDE_DEVICE_H_
