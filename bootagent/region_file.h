#ifndef BOOTAGENT_REGION_FILE_H_
#define BOOTAGENT_REGION_FILE_H_

#include <span>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/image/manifest.h"
#include "bootagent/job.h"
#include "bootagent/plan.h"

// The file in the source's file system whose whole chunks are the region.

namespace bootstream {

struct RegionFile {
  std::vector<ByteExtent> extents;  // on the disk, in the file's order
  std::vector<DiskChunk> chunks;    // the region, in the file's order
};

// Have the file system allocate it, so that the plan's promises hold.  Where
// the pieces that it deals out are too scattered, the file takes all that is to
// be had and then gives back what is of no use, so that as much as the plan
// says stays free.  kNoSpace: not even that would do.
Result<RegionFile> AllocateRegion(const Job& job, const Plan& plan,
                                  const Manifest& manifest);

// The best of `chunks`, as many as the plan allows at most.  Pure.
std::vector<DiskChunk> BestChunks(const Plan& plan, const Manifest& manifest,
                                  std::span<const DiskChunk> chunks);

}  // namespace bootstream

#endif  // BOOTAGENT_REGION_FILE_H_
