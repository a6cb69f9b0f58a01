#include "blockmap/base/posix_block_device.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>

namespace bootstream {
namespace {

Error OpenError(const std::string& path) {
  if (errno == EBUSY) {
    return Error{ErrorCode::kRefused,
                 path + " is in use: unmount what is mounted from it first"};
  }
  return ErrnoError(errno, "open " + path);
}

}  // namespace

Result<UniqueFd> OpenDisk(const std::string& path, OpenMode mode) {
  int flags = O_CLOEXEC | (mode == OpenMode::kReadWrite ? O_RDWR : O_RDONLY);
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return OpenError(path);
  if (S_ISBLK(info.st_mode) && mode == OpenMode::kReadWrite) flags |= O_EXCL;
  UniqueFd fd(::open(path.c_str(), flags | O_DIRECT));
  if (!fd && errno == EINVAL) fd.reset(::open(path.c_str(), flags));
  if (!fd) return OpenError(path);
  return fd;
}

Result<uint64_t> DiskSizeBytes(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return ErrnoError(errno, "fstat");
  if (!S_ISBLK(info.st_mode)) return static_cast<uint64_t>(info.st_size);
  uint64_t size = 0;
  if (::ioctl(fd, BLKGETSIZE64, &size) != 0) {
    return ErrnoError(errno, "BLKGETSIZE64");
  }
  return size;
}

bool LiesInMemory(int fd) {
  struct stat file {};
  struct statfs system {};
  // The nodes of real disks lie in a tmpfs too: devtmpfs.
  if (::fstat(fd, &file) != 0 || !S_ISREG(file.st_mode)) return false;
  return ::fstatfs(fd, &system) == 0 &&
         (system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC);
}

Result<PosixBlockDevice> PosixBlockDevice::Open(const std::string& path,
                                                OpenMode mode) {
  auto fd = OpenDisk(path, mode);
  if (!fd) return fd.error();
  return Adopt(std::move(*fd));
}

Result<PosixBlockDevice> PosixBlockDevice::Adopt(UniqueFd fd) {
  const auto size = DiskSizeBytes(fd.get());
  if (!size) return size.error();
  return PosixBlockDevice(std::move(fd), *size);
}

void PosixBlockDevice::Submit(IoRequest& request) {
  request.complete(request, Transfer(request));
}

Status PosixBlockDevice::Transfer(const IoRequest& request) {
  if (request.op == IoRequest::Op::kFlush) {
    if (::fdatasync(fd_.get()) != 0) return ErrnoError(errno, "fdatasync");
    return OkStatus();
  }
  const bool write = request.op == IoRequest::Op::kWrite;
  if (write && request.zeroes &&
      ::fallocate(fd_.get(), kMakeZero, static_cast<off_t>(request.offset),
                  static_cast<off_t>(request.size)) == 0) {
    return OkStatus();
  }
  uint64_t done = 0;
  while (done < request.size) {
    const auto offset = static_cast<off_t>(request.offset + done);
    const size_t left = request.size - done;
    const ssize_t n =
        write ? ::pwrite(fd_.get(), request.data + done, left, offset)
              : ::pread(fd_.get(), request.data + done, left, offset);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const int error = errno;
      const std::string at = " at byte " + std::to_string(offset);
      if (n == 0) return Error{ErrorCode::kIo, "short transfer" + at};
      return ErrnoError(error, (write ? "write" : "read") + at);
    }
    done += static_cast<uint64_t>(n);
  }
  return OkStatus();
}

}  // namespace bootstream
