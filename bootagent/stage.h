#ifndef BOOTAGENT_STAGE_H_
#define BOOTAGENT_STAGE_H_

#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "blockmap/image/chunk_source.h"
#include "blockmap/image/manifest.h"
#include "blockmap/map/map_store.h"
#include "bootagent/job.h"

namespace bootstream {

// The image's boot set, in boot order.
std::vector<ImageChunk> BootChunks(const Manifest& manifest);

// Fetch every boot-set chunk that is not on the disk yet into the region: to
// its home if that is free there, else to a chunk that is no boot home.  Only
// the region is written.  Stop points: staged-written (on the disk, read back,
// not recorded), staged-recorded; once for each batch.
Task<Status> StageBootSet(const Job& job, MapStore& store,
                          const Manifest& manifest, ChunkSource& source);

}  // namespace bootstream

#endif  // BOOTAGENT_STAGE_H_
