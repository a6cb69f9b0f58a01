#ifndef TESTS_CRASH_RECORDING_DEVICE_H_
#define TESTS_CRASH_RECORDING_DEVICE_H_

#include <cstdint>
#include <deque>
#include <random>
#include <span>
#include <vector>

#include "blockmap/base/block_device.h"

namespace bootstream {

// What was done to a disk, in the order of a clock that ticks with every
// request that is submitted, and with every flush that returns.
struct Recording {
  struct Write {
    uint64_t offset = 0;
    std::vector<std::byte> data;
    uint64_t submitted = 0;  // clock
  };
  struct Flush {
    uint64_t covers = 0;  // the first so many of `writes`
    uint64_t done = 0;    // clock
  };
  std::vector<Write> writes;  // in the order of their completion
  std::vector<Flush> flushes;
  uint64_t end = 0;  // clock
};

// A disk in memory that records.  Requests complete inside Submit; while held,
// they wait for Step to carry one of them out.  A flush covers what had
// completed when it was submitted.
class RecordingDevice final : public BlockDevice {
 public:
  explicit RecordingDevice(std::vector<std::byte> disk)
      : bytes_(std::move(disk)) {}

  void Submit(IoRequest& request) override;
  uint64_t size_bytes() const override { return bytes_.size(); }

  std::span<const std::byte> bytes() const { return bytes_; }
  uint64_t clock() const { return clock_; }
  // Nothing that was done so far is part of the recording, or can be lost.
  void Forget();

  void Hold() { held_ = true; }
  // Carry out any one of those that wait; false: none does.
  bool Step(std::mt19937_64& random);
  // From now on inside Submit again.  REQUIRES: nothing waits.
  void LetGo() { held_ = false; }

  // REQUIRES: nothing waits.
  Recording TakeRecording();

 private:
  struct Waiting {
    IoRequest* request = nullptr;
    uint64_t submitted = 0;
    uint64_t covers = 0;
  };
  void Run(const Waiting& waiting);

  std::vector<std::byte> bytes_;
  Recording recording_;
  uint64_t clock_ = 0;
  std::deque<Waiting> waiting_;
  bool held_ = false;
};

}  // namespace bootstream

#endif  // TESTS_CRASH_RECORDING_DEVICE_H_
