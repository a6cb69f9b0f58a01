#include "bootagent/disk_lock.h"

#include <sys/file.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "blockmap/disk/probe.h"

namespace bootstream {
namespace {

// udev takes the same lock for a moment when it looks at a disk.
constexpr int kLockAttempts = 40;
constexpr std::chrono::milliseconds kLockPause{50};

Status Lock(int fd, int operation, const std::string& path) {
  for (int attempt = 0; attempt < kLockAttempts; ++attempt) {
    if (::flock(fd, operation | LOCK_NB) == 0) return OkStatus();
    if (errno != EWOULDBLOCK && errno != EINTR) {
      return ErrnoError(errno, "lock " + path);
    }
    std::this_thread::sleep_for(kLockPause);
  }
  return Error{ErrorCode::kRefused,
               path +
                   " is in use by another bootagent or streamd: let it end "
                   "first"};
}

}  // namespace

Result<std::string> ChooseDisk(const std::string& named) {
  if (!named.empty()) return named;
  const auto disks = CandidateDisks();
  if (disks.size() == 1) return disks.front();
  std::string message = disks.empty() ? "there is no internal disk"
                                      : "there is more than one disk:";
  for (const std::string& disk : disks) message += " " + disk;
  return Error{ErrorCode::kRefused, message + "; name one with --disk"};
}

Result<PosixBlockDevice> OpenLocked(const std::string& path, OpenMode mode) {
  if (auto s = CheckNotInUse(path); !s) return s.error();
  auto device = PosixBlockDevice::Open(path, mode);
  if (!device) return device.error();
  const int operation = mode == OpenMode::kReadOnly ? LOCK_SH : LOCK_EX;
  if (auto s = Lock(device->fd(), operation, path); !s) return s.error();
  return device;
}

}  // namespace bootstream
