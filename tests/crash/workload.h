#ifndef TESTS_CRASH_WORKLOAD_H_
#define TESTS_CRASH_WORKLOAD_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tests/crash/recording_device.h"
#include "tests/crash/scratch_disk.h"

namespace bootstream {

// A power cut that has happened, as the one who checks must know it.
struct Cut {
  uint64_t clock = 0;   // of the recording
  bool torn = false;    // some write arrived in part only
  uint64_t choice = 0;  // random: which way to go on
};

// What was done, and how often.
using Tally = std::map<std::string, uint64_t>;

// One run of the real agent or the real driver core, and what must be true of
// the disk whenever it is cut short.  Made from a seed, used once.
class Workload {
 public:
  virtual ~Workload() = default;

  // The disk before the run.
  virtual std::vector<std::byte> Base() = 0;
  // A disk that what is checked was compared with before; Base(), most often.
  virtual std::vector<std::byte> Origin() { return Base(); }
  // Do the work; what went wrong, or nothing.
  virtual std::string Run(RecordingDevice& device) = 0;
  // What a run that was recorded on the disk `base` has done.
  virtual Tally TallyOf(std::span<const std::byte> base,
                        const Recording& recording) const = 0;
  // What the next start does after a power cut, up to its end.
  virtual std::string Recover(BlockDevice& device, const Cut& cut) = 0;
  // Check `disk` as it was left, recover, check again; what is wrong, or
  // nothing.  `disk` may be changed; its Reset leads back.
  virtual std::string Check(ScratchDisk& disk, const Cut& cut) = 0;
};

struct PhaseOfLife {
  std::string name;
  std::function<std::unique_ptr<Workload>(uint64_t seed)> make;
  // What its runs must have done in the end, or it is not what it is named for;
  // judged after so many rounds.
  std::vector<std::string> must_do = {};
  uint64_t judged_after = 1;
};

}  // namespace bootstream

#endif  // TESTS_CRASH_WORKLOAD_H_
