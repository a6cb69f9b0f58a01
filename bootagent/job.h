#ifndef BOOTAGENT_JOB_H_
#define BOOTAGENT_JOB_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "blockmap/base/block_device.h"
#include "blockmap/base/progress.h"
#include "blockmap/base/result.h"
#include "blockmap/disk/mover.h"

namespace bootstream {

// Names every point between two durable actions, so that a test can end the
// process at any of them as a power cut would.  "NAME" is the first time,
// "NAME:3" the third; "" never.
class StopPoints {
 public:
  explicit StopPoints(std::string_view wanted = {});
  // kUnavailable if this is where to stop.  Nothing may be written after that.
  Status Reach(std::string_view name);

 private:
  std::string name_;
  uint64_t left_ = 1;
};

// What everything that works on one disk shares.
struct Job {
  std::string disk;  // path
  BlockDevice& device;
  Sha256 serial_sha256{};
  StopPoints& stops;
  Progress& progress;
  uint32_t batch_chunks = 64;

  // For a mover operation whose stop points are "PREFIX-copied" and
  // "PREFIX-recorded".
  MoverOptions Mover(const std::string& prefix) const;
};

}  // namespace bootstream

#endif  // BOOTAGENT_JOB_H_
