#include "initramfs/driver/kept_disk.h"

#include <fcntl.h>

#include <cerrno>
#include <string>

namespace bootstream {

Result<UniqueFd> OpenForThisWorker(int disk, int proc) {
  const int how = ::fcntl(disk, F_GETFL);
  if (how < 0) return ErrnoError(errno, "the kept disk");
  const std::string path = "self/fd/" + std::to_string(disk);
  UniqueFd fd(
      ::openat(proc, path.c_str(), (how & (O_ACCMODE | O_DIRECT)) | O_CLOEXEC));
  if (!fd) return ErrnoError(errno, "open the kept disk");
  struct flock lock {};
  lock.l_type = (how & O_ACCMODE) == O_RDONLY ? F_RDLCK : F_WRLCK;
  lock.l_whence = SEEK_SET;
  while (::fcntl(fd.get(), F_OFD_SETLKW, &lock) != 0) {
    if (errno != EINTR) return ErrnoError(errno, "wait for the disk");
  }
  return fd;
}

}  // namespace bootstream
