#ifndef INITRAMFS_DRIVER_DISK_YIELD_H_
#define INITRAMFS_DRIVER_DISK_YIELD_H_

#include <bitset>
#include <functional>

#include "blockmap/base/executor.h"
#include "blockmap/base/task.h"

namespace bootstream {

// Keeps work in the background out of the way of those who wait for the disk.
// Looks now and then whether somebody does; while that is so at most looks, one
// piece of work waits until it is not, or for so long that there is still some
// progress, and all others behind it.  One thread, the executor's.
class DiskYield {
 public:
  using Duration = Executor::Duration;
  static constexpr size_t kLooks = 10;
  struct Options {
    // Of the last looks, so many percent found the disk in use: it is busy; 0:
    // it never is.
    unsigned busy_percent = 50;
    Duration look_every = std::chrono::milliseconds(10);
    Duration wait_max = std::chrono::milliseconds(100);
  };

  DiskYield(Executor& executor, std::function<bool()> in_use, Options options)
      : executor_(executor), in_use_(std::move(in_use)), options_(options) {}

  // Returns when it is the caller's turn.
  Task<void> Turn();
  // Nobody waits any more.
  void Stop() { options_.busy_percent = 0; }

 private:
  void Look();
  bool IsBusy() const {
    return options_.busy_percent > 0 &&
           looks_.count() * 100 >= options_.busy_percent * kLooks;
  }

  Executor& executor_;
  std::function<bool()> in_use_;
  Options options_;
  AsyncSharedMutex turn_;
  std::bitset<kLooks> looks_;
  Duration last_look_{0};
  Duration last_turn_{0};
};

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_DISK_YIELD_H_
