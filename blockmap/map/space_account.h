#ifndef BLOCKMAP_MAP_SPACE_ACCOUNT_H_
#define BLOCKMAP_MAP_SPACE_ACCOUNT_H_

#include <cstdint>

#include "blockmap/map/region.h"
#include "blockmap/map/superblock.h"

// What a plan has promised of the region, and how it came out.  Pure.

namespace bootstream {

// Of the spare chunks the target's writes leave these: however much it has
// written, a rollback can begin to exchange.
inline uint64_t KeptForTheWayBack(const Superblock& superblock) {
  return superblock.spare_chunks / 2;
}

// So many image chunks that have no place on the disk can still be given one,
// without anything being evicted.
uint64_t RoomForImage(const Superblock& superblock, const Region& region);

// In chunks.  The plan's account (bootagent/plan.h) of the region as it came
// out; `region` is the base region then, before commit.
struct SpacePrediction {
  uint64_t relocations = 0;     // by the agent, and for pinned writes: at most
  uint64_t metadata = 0;        // live, and to write it anew: at most
  uint64_t room_for_image = 0;  // at least; the image's chunks that are placed
                                // count
};
// `kept_chunks`: in the boot set or pinned.
SpacePrediction PredictSpace(const Superblock& superblock, const Region& region,
                             uint64_t kept_chunks);

}  // namespace bootstream

#endif  // BLOCKMAP_MAP_SPACE_ACCOUNT_H_
