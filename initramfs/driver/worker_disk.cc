#include "initramfs/driver/worker_disk.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include "blockmap/base/posix_block_device.h"
#include "initramfs/driver/kept_disk.h"
#include "initramfs/takeover/takeover.h"

namespace bootstream {
namespace {

bool LockSoon(int fd, int lock) {
  const auto patience =
      std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (::flock(fd, lock | LOCK_NB) != 0) {
    if (std::chrono::steady_clock::now() > patience) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return true;
}

}  // namespace

Result<UniqueFd> OpenForDriver(const std::string& path, bool takeover,
                               bool read_only) {
  if (takeover) {
    auto claimed = ClaimDisk(path);
    if (!claimed) return claimed.error();
    return std::move(claimed->fd);
  }
  auto fd =
      OpenDisk(path, read_only ? OpenMode::kReadOnly : OpenMode::kReadWrite);
  if (!fd) return fd.error();
  if (!LockSoon(fd->get(), read_only ? LOCK_SH : LOCK_EX)) {
    return Error{ErrorCode::kRefused,
                 path +
                     " is in use by another streamd or bootagent: let it "
                     "end first"};
  }
  return fd;
}

Result<WorkerDisk> OpenDiskOnce(const std::string& path, bool takeover,
                                bool read_only, FdStore& kept) {
  UniqueFd disk = kept.Take("disk");
  if (!disk) {
    auto opened = OpenForDriver(path, takeover, read_only);
    if (!opened) return opened.error();
    if (!kept.has_keeper()) return WorkerDisk{std::move(*opened), UniqueFd()};
    disk = std::move(*opened);
    if (auto s = kept.Keep("disk", disk.get()); !s) return s.error();
  }
  UniqueFd proc = kept.Take("proc");
  if (!proc) {
    proc.reset(::open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!proc) return ErrnoError(errno, "/proc");
    if (auto s = kept.Keep("proc", proc.get()); !s) return s.error();
  }
  auto ours = OpenForThisWorker(disk.get(), proc.get());
  if (!ours) return ours.error();
  return WorkerDisk{std::move(*ours), std::move(proc)};
}

}  // namespace bootstream
