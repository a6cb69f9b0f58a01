#ifndef INITRAMFS_DRIVER_KEPT_DISK_H_
#define INITRAMFS_DRIVER_KEPT_DISK_H_

#include "blockmap/base/result.h"
#include "blockmap/base/unique_fd.h"

namespace bootstream {

// The disk that is open as `disk`, which all workers share, opened for this
// one alone and in the same way: returns when nothing is under way any more
// that an earlier worker began through its own.  A dead process's io_uring
// writes go on, and hold its description; so does the lock that we wait for
// (F_OFD_SETLKW, fcntl(2)).  `proc`: /proc, open, which may be out of sight.
Result<UniqueFd> OpenForThisWorker(int disk, int proc);

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_KEPT_DISK_H_
