#ifndef TESTS_CRASH_CRASH_STATES_H_
#define TESTS_CRASH_CRASH_STATES_H_

#include <cstdint>
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

// How many states a point has: all of them where the window is a few sectors,
// else more than anybody will try.
uint64_t StateCount(const CrashPoint& point);

// State `number` of a point; the same for the same `seed`.  Where states are
// too many to try all, the first are: none of the window, all of it, and each
// of its beginnings; then random ones.
CrashState MakeState(const CrashPoint& point, uint64_t number, uint64_t seed);

// A hash of a disk's content is the XOR of this over its sectors, so that a
// change of a few sectors is cheap to follow.
uint64_t SectorHash(uint64_t sector, std::span<const std::byte> bytes);

}  // namespace bootstream

#endif  // TESTS_CRASH_CRASH_STATES_H_
