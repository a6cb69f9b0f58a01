#ifndef INITRAMFS_DRIVER_WORKER_DISK_H_
#define INITRAMFS_DRIVER_WORKER_DISK_H_

#include <string>

#include "blockmap/base/result.h"
#include "blockmap/base/unique_fd.h"
#include "initramfs/keeper/fd_store.h"

namespace bootstream {

// The disk or disk file at `path` for one driver alone: claimed, for a
// takeover, or locked, which is waited for a little: one that was killed keeps
// its lock until its last I/O has ended.  kRefused: somebody else has it.
// Blocking.
Result<UniqueFd> OpenForDriver(const std::string& path, bool takeover,
                               bool read_only);

struct WorkerDisk {
  UniqueFd disk;
  UniqueFd proc;  // with a keeper: /proc, seen from before a chroot
};

// The same for a worker.  With a keeper: what all workers share stays with it
// (keeper.md), and each has a descriptor of its own.
Result<WorkerDisk> OpenDiskOnce(const std::string& path, bool takeover,
                                bool read_only, FdStore& kept);

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_WORKER_DISK_H_
