#ifndef BOOTAGENT_KEPT_TARGET_H_
#define BOOTAGENT_KEPT_TARGET_H_

#include <cstdint>
#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "blockmap/image/manifest.h"
#include "blockmap/map/map_store.h"
#include "bootagent/job.h"

// A target that was parked and comes back: what it wrote exists nowhere but in
// the region, so that a migration of this kind (Superblock::keep_target) is
// never begun anew.  The source may have run while it was parked, and may run
// again until the stub stands; that its files have changed is normal.

namespace bootstream {

// Take the source as it is now: its fingerprint, no chunk of it relocated,
// phase released.  Afterwards the map is kept for good.
// kRefused, and nothing is changed: the source is in no state to be migrated
// (as `plan` says it), or the region file is not where the map says.
// REQUIRES: nothing but the source's chunks lies in the places of relocated
// ones, which are reserved.  Stop points: released, relocations-dropped.
Task<Status> TakeSourceAnew(const Job& job, const std::string& serial,
                            MapStore& store);

// The source's chunks that the target's want to be in.
struct InTheWay {
  // To be relocated before the stub: those that the source's and the target's
  // tables and the anchor lie in.
  std::vector<DiskChunk> first;
  // Others that a chunk goes home to.
  std::vector<DiskChunk> homes;
  uint64_t wanted() const { return first.size() + homes.size(); }
  // At least so many must be free: then the others change places one by one.
  uint64_t needed() const { return first.size() + (homes.empty() ? 0 : 1); }
};
Task<Result<InTheWay>> OccupantsInTheWay(const Job& job, const MapStore& store,
                                         const Manifest& manifest);

// Give clean chunks of the image up, none that has to be at home, until
// `wanted` chunks can be staged or relocated.  kNoSpace: not even `needed` can.
Task<Status> MakeRoom(MapStore& store, const Manifest& manifest,
                      uint64_t wanted, uint64_t needed);

// Everything inside the region that has to happen before the missing boot
// chunks are staged: clean boot chunks that do not match their digest are
// forgotten, there is room for what comes, and of the chunks that have to be at
// home those whose home is in the region are.  Stop points: room-made,
// vacate-copied, vacate-recorded, settle-copied, settle-recorded.
Task<Status> PrepareHomes(const Job& job, MapStore& store,
                          const Manifest& manifest);

// Is every chunk of the image on the disk, or zero?  Then the target needs no
// server any more.
bool IsWhole(const Manifest& manifest, const BlockMap& map);

}  // namespace bootstream

#endif  // BOOTAGENT_KEPT_TARGET_H_
