#ifndef BOOTAGENT_REGION_SIZE_H_
#define BOOTAGENT_REGION_SIZE_H_

#include <cstdint>

#include "blockmap/base/result.h"
#include "blockmap/disk/ext_space.h"
#include "blockmap/image/manifest.h"
#include "bootagent/plan.h"

// How large the region file is to be so that the region is large enough,
// however the file system deals its space out.  Pure.

namespace bootstream {

// What a file that took all free space would yield.  A chunk is *plain* if it
// is not the home of a boot-set or pinned chunk.
struct RegionRoom {
  uint64_t bytes = 0;    // free, or in a region file of an earlier run
  uint64_t chunks = 0;   // whole ones of the grid, but for the anchor's
  uint64_t plain = 0;    // of these
  uint64_t extents = 0;  // into how many a region may fall, at most
};

// `plan`: grid and anchor are filled in.
RegionRoom CountRoom(const ExtSpace& space, const Plan& plan,
                     const Manifest& manifest);

// Fill in the size of the region and its file, and whether that is a guarantee.
// A file that leaves some of the free space alone is taken to leave the best of
// it: whole chunks.  kRefused says how much is missing.
// REQUIRES: in `plan`, all but these is filled in.
Status SizeRegion(Plan& plan, const RegionRoom& room,
                  const PlanOptions& options);

}  // namespace bootstream

#endif  // BOOTAGENT_REGION_SIZE_H_
