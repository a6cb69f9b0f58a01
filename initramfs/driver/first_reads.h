#ifndef INITRAMFS_DRIVER_FIRST_READS_H_
#define INITRAMFS_DRIVER_FIRST_READS_H_

#include <cstdint>
#include <vector>

#include "blockmap/base/executor.h"
#include "blockmap/image/manifest.h"

namespace bootstream {

// Which chunks a machine has read, in the order in which it read each for the
// first time: the trace of a boot on a real machine, for the prefetch list of
// the image's next build (imgserver/trace.md).  Bounded.  Pure.
class FirstReads {
 public:
  static constexpr size_t kRunsMax = size_t{1} << 16;

  // Times count from `start`.
  FirstReads(uint64_t chunk_count, Executor::Duration start)
      : start_(start), last_added_(start), seen_(chunk_count) {}

  // Whether adding chunks `first` to `last` would change nothing.
  bool Knows(uint64_t first, uint64_t last) const {
    while (first < last && seen_[first]) ++first;
    return seen_[first] || full();
  }
  void Add(uint64_t first, uint64_t last, Executor::Duration now);

  // Once it is full, nothing is added.
  bool full() const { return runs_.size() == kRunsMax; }
  // When a chunk was last read that had not been read before; at first the
  // start.
  Executor::Duration last_added() const { return last_added_; }
  const std::vector<PrefetchEntry>& runs() const { return runs_; }

 private:
  Executor::Duration start_;
  Executor::Duration last_added_;
  std::vector<bool> seen_;
  std::vector<PrefetchEntry> runs_;
};

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_FIRST_READS_H_
