#ifndef INITRAMFS_DRIVER_PACER_H_
#define INITRAMFS_DRIVER_PACER_H_

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <utility>

#include "blockmap/base/executor.h"
#include "blockmap/base/task.h"
#include "initramfs/driver/disk_yield.h"

namespace bootstream {

// Work in the background takes a turn for each piece: not while others keep the
// disk busy, and no faster than a rate.  One thread, the executor's.
class Pacer {
 public:
  Pacer(Executor& executor, std::function<bool()> disk_in_use,
        DiskYield::Options yield, uint64_t bytes_per_second)
      : executor_(executor),
        yield_(executor, std::move(disk_in_use), yield),
        limit_(bytes_per_second) {}

  void SetLimit(uint64_t bytes_per_second) { limit_ = bytes_per_second; }
  uint64_t limit_bytes_per_second() const { return limit_; }  // 0: none
  // Nobody waits for the disk any more.
  void Stop() { yield_.Stop(); }

  // Returns when the caller may do `bytes` of work.
  Task<void> Turn(uint64_t bytes) {
    co_await yield_.Turn();
    if (limit_ == 0) co_return;
    const auto cost = std::chrono::nanoseconds(static_cast<int64_t>(
        static_cast<double>(bytes) * 1e9 / static_cast<double>(limit_)));
    const Executor::Duration now = executor_.Now();
    const Executor::Duration start = std::max(now, free_at_);
    free_at_ = start + cost;
    if (start > now) co_await executor_.Sleep(start - now);
  }

 private:
  Executor& executor_;
  DiskYield yield_;
  uint64_t limit_;
  Executor::Duration free_at_{0};
};

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_PACER_H_
