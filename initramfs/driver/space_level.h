#ifndef INITRAMFS_DRIVER_SPACE_LEVEL_H_
#define INITRAMFS_DRIVER_SPACE_LEVEL_H_

#include <cstdint>
#include <string>
#include <string_view>

// How near the region is to being full, and what follows from that.  Pure.

namespace bootstream {

// Counts are of chunks.
struct SpaceFacts {
  uint64_t chunk_bytes = 0;
  uint64_t region = 0;
  uint64_t free = 0;    // for the image, nothing evicted (RoomForImage)
  uint64_t clean = 0;   // on the disk, and can be evicted
  uint64_t absent = 0;  // image chunks with no place: each may be written
  uint64_t waiting_writes = 0;
  bool stuck = false;  // one of them has waited for longer than a moment
  bool guaranteed = false;
  bool give_up_source = false;  // the policy; else block
  bool committed = false;
  bool rollback_wished = false;
  bool source_attached = false;
};

// kOk: whatever is written, there is room; or there is much.  kFull: a write
// waits, or the next one that wants a place will.
enum class SpaceLevel : uint8_t { kOk, kLow, kCritical, kFull };

SpaceLevel SpaceLevelOf(const SpaceFacts& facts);
std::string_view SpaceLevelName(SpaceLevel level);
// One sentence: how it is, and what follows or helps.
std::string SpaceSentence(const SpaceFacts& facts);
// By the policy the old system is to be given up now.
bool WantsSource(const SpaceFacts& facts);

}  // namespace bootstream

#endif  // INITRAMFS_DRIVER_SPACE_LEVEL_H_
