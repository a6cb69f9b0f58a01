#ifndef BOOTAGENT_RELEASE_H_
#define BOOTAGENT_RELEASE_H_

#include <memory>
#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "blockmap/map/map_store.h"
#include "bootagent/image_access.h"
#include "bootagent/job.h"
#include "bootagent/plan.h"

namespace bootstream {

// What the migration remembers besides the plan.
struct MigrationStrings {
  std::vector<std::string> servers;
  std::string network;  // kernel ip= syntax; may be empty
};

// Take the planned space from the source's file system and lay a new map down
// in it: phase released.  A region file that is there is reused; whatever map
// it held is forgotten.  The file is tagged with the new one when that is
// there, so that nobody looks for what is not.  Stop points: region-allocated,
// map-created, region-tagged, released.
Task<Result<std::unique_ptr<MapStore>>> Release(
    const Job& job, const Plan& plan, const ManifestFile& manifest,
    const MigrationStrings& strings);

// Does the region file still lie where the map of `store` says?
bool RegionIsInPlace(const Job& job, const MapStore& store);

// Is everything as `store` left it: the region file in its place, the source
// not mounted since, and every relocated chunk, but for the sectors `ours` that
// we have written, still the same as its copy?  Errors: only those of the disk.
Task<Result<bool>> SourceIsUntouched(const Job& job, const MapStore& store,
                                     SkippedSectors ours);

}  // namespace bootstream

#endif  // BOOTAGENT_RELEASE_H_
