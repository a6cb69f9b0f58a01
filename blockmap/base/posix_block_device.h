#ifndef BLOCKMAP_BASE_POSIX_BLOCK_DEVICE_H_
#define BLOCKMAP_BASE_POSIX_BLOCK_DEVICE_H_

#include <fcntl.h>

#include <string>

#include "blockmap/base/block_device.h"
#include "blockmap/base/unique_fd.h"

namespace bootstream {

enum class OpenMode { kReadOnly, kReadWrite };

// Open a disk, or a file that stands for one, with O_DIRECT where the file
// system has it (tmpfs before Linux 6.6 does not), O_CLOEXEC always and, for a
// block device opened to write, O_EXCL: a disk in use is kRefused.
Result<UniqueFd> OpenDisk(const std::string& path, OpenMode mode);

// Size in bytes of the disk or file behind `fd`.
Result<uint64_t> DiskSizeBytes(int fd);

// How fallocate(2) makes a range of a disk or of a file zero, without writing:
// on a disk that is WRITE ZEROES, which may unmap.
inline constexpr int kMakeZero = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

// Is `fd` a file of tmpfs or ramfs?  There is nothing to wait for then, and the
// blocking door is the fastest: io_uring has no way to ask these for what is
// there at once, and would hand each request to a thread.
bool LiesInMemory(int fd);

// The blocking door: pread, pwrite, fdatasync; everything completes inside
// Submit.  For the agent, for tools, for the thread sanitizer, and for
// disk files that lie in memory.
class PosixBlockDevice final : public BlockDevice {
 public:
  static Result<PosixBlockDevice> Open(const std::string& path, OpenMode mode);
  // Takes over an open descriptor.
  static Result<PosixBlockDevice> Adopt(UniqueFd fd);

  void Submit(IoRequest& request) override;
  uint64_t size_bytes() const override { return size_bytes_; }
  int fd() const { return fd_.get(); }

 private:
  PosixBlockDevice(UniqueFd fd, uint64_t size_bytes)
      : fd_(std::move(fd)), size_bytes_(size_bytes) {}
  Status Transfer(const IoRequest& request);
  UniqueFd fd_;
  uint64_t size_bytes_;
};

}  // namespace bootstream

#endif  // BLOCKMAP_BASE_POSIX_BLOCK_DEVICE_H_
