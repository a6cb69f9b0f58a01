#ifndef INITRAMFS_FRONTEND_FUSE_FILE_H_
#define INITRAMFS_FRONTEND_FUSE_FILE_H_

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "blockmap/base/block_service.h"
#include "blockmap/base/io_loop.h"
#include "blockmap/base/unique_fd.h"

namespace bootstream {

// What a FUSE connection began with.
struct FuseSession {
  int device = -1;                      // /dev/fuse; not owned
  std::vector<std::byte> init_request;  // as the kernel sent it
  // The kernel sends requests again when asked to (Linux 6.9).
  bool can_resend = false;

  static FuseSession From(std::span<const std::byte> init_request);
};

// A mounted FUSE file system that holds one file, whose content is a
// BlockService.  libfuse speaks the protocol; requests are read on the loop
// and answered by coroutines, many at a time.  Source: fuse_lowlevel.h,
// fuse(4).
//
// fsync is Flush.  Punching a hole and zeroing a range are both WriteZeroes:
// a loop device asks for its discards and for its zeroes by the same call, so
// a hint is not enough.
class FuseFile {
 public:
  static constexpr uint32_t kWriteBytesMax = 1 << 20;

  // Mount on `directory`.  `loop` and `service` must outlive the file.  The
  // mount answers once the loop turns: use it from other threads.  `on_gone` is
  // called once, when the kernel has let go of the file system.
  // `on_begin` is called with what another process would need to adopt the
  // file, before anything is answered.
  static Result<std::unique_ptr<FuseFile>> Mount(
      IoLoop& loop, BlockService& service, const std::string& directory,
      const std::string& file_name, std::function<void()> on_gone,
      std::function<void(const FuseSession&)> on_begin = nullptr);
  // Go on where a dead process has left off, whose /dev/fuse somebody has held
  // open: the kernel sends again what was not answered.  Nobody can look the
  // file up any more: those who have it open, have it.
  // REQUIRES: session.can_resend.
  static Result<std::unique_ptr<FuseFile>> Adopt(IoLoop& loop,
                                                 BlockService& service,
                                                 UniqueFd device,
                                                 const FuseSession& session,
                                                 std::function<void()> on_gone);
  virtual ~FuseFile() = default;

  // End the service.  REQUIRES: the mount has been detached, or is of no
  // further use.  Waits for the kernel to let go of the file system, but not
  // for ever: files still open give errors afterwards.
  virtual Task<Status> Close() = 0;
};

}  // namespace bootstream

#endif  // INITRAMFS_FRONTEND_FUSE_FILE_H_
