#ifndef INITRAMFS_DRIVER_SOURCE_DEVICE_H_
#define INITRAMFS_DRIVER_SOURCE_DEVICE_H_

#include <memory>
#include <string>

#include "blockmap/base/io_loop.h"
#include "blockmap/disk/source_view.h"
#include "initramfs/driver/frontend_kind.h"
#include "initramfs/driver/read_only_service.h"
#include "initramfs/frontend/frontend.h"
#include "initramfs/frontend/kernel_device.h"
#include "initramfs/keeper/fd_store.h"

namespace bootstream {

struct SourceDeviceOptions {
  FrontendKind frontend = FrontendKind::kSocket;  // not kAuto
  std::string socket;                             // kSocket
  std::string mount_directory;                    // kFuse
  Uuid migration{};  // names the device to a later process
  // Told of a device of the kernel: udev must take it for nobody's.
  DeviceNotice notice;
  LogLine log;
};

// The old system's disk, offered read-only by a front end of its own while
// somebody wants it.  Thread of the loop.  Everything given must outlive it.
class SourceDevice {
 public:
  // `kept`: a branch of its own of the keeper's store.
  SourceDevice(IoLoop& loop, BlockDevice& disk, const BlockMap& map,
               const Grid& disk_grid, FdStore kept,
               SourceDeviceOptions options);

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

  IoLoop& loop_;
  SourceView view_;
  ReadOnlyService service_;
  FdStore kept_;
  const SourceDeviceOptions options_;
  AsyncSharedMutex mutex_;  // attaching, detaching
  int attaching_ = 0;
  std::unique_ptr<Frontend> frontend_;
  std::string path_;
};

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_SOURCE_DEVICE_H_
