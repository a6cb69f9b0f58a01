#ifndef INITRAMFS_CLOSURE_FROZEN_H_
#define INITRAMFS_CLOSURE_FROZEN_H_

#include <chrono>
#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/unique_fd.h"

namespace bootstream {

// File systems that stand still: everything is on their devices, as after an
// unmount, and whoever writes waits (FIFREEZE, fsfreeze(8)).  Until it is
// destroyed, or this process ends, however that comes, or `limit` is over: a
// process of its own thaws them.  Who holds one must write nothing to them.
class Frozen {
 public:
  // By their mount points; each once.
  static Result<Frozen> Freeze(const std::vector<std::string>& mounts,
                               std::chrono::milliseconds limit);
  Frozen(Frozen&&) = default;
  Frozen& operator=(Frozen&&) = delete;
  ~Frozen();

 private:
  Frozen(UniqueFd pipe, int guard) : pipe_(std::move(pipe)), guard_(guard) {}
  UniqueFd pipe_;  // closed: thaw
  int guard_;      // the process
};

}  // namespace bootstream

#endif  // INITRAMFS_CLOSURE_FROZEN_H_
