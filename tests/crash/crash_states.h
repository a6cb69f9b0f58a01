#ifndef TESTS_CRASH_CRASH_STATES_H_
#define TESTS_CRASH_CRASH_STATES_H_

#include <cstdint>
#include <optional>
#include <random>
#include <span>
#include <vector>

#include "tests/crash/recording_device.h"

// What may be on a disk after a power cut.  A disk keeps what was flushed; of
// what was not, any part: each write whole, not at all, or torn (some of its
// sectors, or some of its blocks of 4 KiB); of writes that overlap, the earlier
// may win.  A sector of 512 bytes is old or new.

namespace bootstream {

// The power goes just before a flush returns, or at the end of the recording.
struct CrashPoint {
  uint64_t clock = 0;
  uint64_t durable = 0;  // the first so many writes of the recording are safe
  std::vector<const Recording::Write*> window;  // and these are not
};

// One for each flush, and one for the end.  `recording` must outlive them.
std::vector<CrashPoint> CrashPointsOf(const Recording& recording);

// What a state has of its point's window, in the order in which it arrived.
struct CrashState {
  struct Piece {
    uint64_t offset = 0;
    std::span<const std::byte> data;
  };
  std::vector<Piece> pieces;
  bool torn = false;  // a write of which only a part arrived
};

// The states of one point.  A sector that no write of the window would change
// makes no difference: what counts is which of their contents the others have.
class CrashStates {
 public:
  // More different disks than these are not counted.
  static constexpr uint64_t kCountedMax = 4096;

  // `disk`: what is durable at `point`, which must outlive the states.  The
  // same states for the same `seed`.
  CrashStates(const CrashPoint& point, std::span<const std::byte> disk,
              uint64_t seed);

  // How many different disks there are; nullopt: more than kCountedMax.
  std::optional<uint64_t> disk_count() const { return disk_count_; }
  // So many numbers lead to `wanted` different disks, or to all that there are;
  // where they are not counted, very probably.
  uint64_t NumbersFor(uint64_t wanted) const;

  // Very few disks are numbered one by one.  Else the first numbers are: none
  // of the window, all of it, and each of its beginnings; then, in an order
  // that the seed draws, all disks if they are counted, else random ones.
  CrashState Make(uint64_t number) const;

 private:
  struct Content {
    std::span<const std::byte> data;
    std::vector<size_t> writes;  // of the window, which bring it
  };
  struct Sector {
    uint64_t offset = 0;
    std::vector<Content> contents;  // other than what is durable
  };
  void FindSectors(std::span<const std::byte> disk);
  void CountDisks();
  uint64_t prefix_count() const;
  CrashState Disk(uint64_t number) const;
  CrashState Prefix(uint64_t number, std::mt19937_64& random) const;

  const CrashPoint& point_;
  uint64_t seed_;
  std::vector<Sector> sectors_;   // that may change
  std::vector<size_t> changing_;  // how many sectors each write changes
  std::optional<uint64_t> disk_count_;
  std::vector<uint32_t> order_;  // of the disks, if they are counted
};

// A hash of a disk's content is the XOR of this over its sectors, so that a
// change of a few sectors is cheap to follow.
uint64_t SectorHash(uint64_t sector, std::span<const std::byte> bytes);

}  // namespace bootstream

#endif  // TESTS_CRASH_CRASH_STATES_H_
