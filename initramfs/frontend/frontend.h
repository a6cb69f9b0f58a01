#ifndef INITRAMFS_FRONTEND_FRONTEND_H_
#define INITRAMFS_FRONTEND_FRONTEND_H_

#include <cstddef>
#include <functional>
#include <string>

#include "blockmap/base/result.h"
#include "blockmap/base/task.h"

namespace bootstream {

// One way to make a BlockService usable by others: as a socket or as a block
// device of the kernel.  Made by the Make... functions beside this file, which
// open nothing; `loop` and `service` given to them must outlive it.  Runs on
// the loop's thread and needs the loop running: the kernel reads a device while
// it is being set up, and that blocking work has a thread of its own.
class Frontend {
 public:
  // REQUIRES: never started, failed to start, stopped, or the loop never runs
  // again.  Leaves a device of the kernel as kill -9 would.
  virtual ~Frontend() = default;

  // Begin to serve.  The path that clients open: a socket, or a block device
  // whose size is right.  After an error nothing is left behind, and what a
  // killed predecessor left is cleared away first.  Call once.
  virtual Task<Result<std::string>> Start() = 0;

  // Give clients' cached writes to the service, take the device away, answer
  // what is in hand.  kRefused while the device is in use (mounted, claimed):
  // nothing has changed then, and Stop may be called again.
  virtual Task<Status> Stop() = 0;
};

// What the requests of one device of the kernel that are under way may have of
// the memory that the driver reserves (ReserveMemory); others wait.  Reads may
// wait for a server, and what is written then may be memory that others want.
constexpr size_t kReadPayloadBytesMax = size_t{4} << 20;
constexpr size_t kWritePayloadBytesMax = size_t{1} << 20;

// A line for the log.
using LogLine = std::function<void(const std::string& line)>;

}  // namespace bootstream

#endif  // INITRAMFS_FRONTEND_FRONTEND_H_
