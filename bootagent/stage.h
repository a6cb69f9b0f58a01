#ifndef BOOTAGENT_STAGE_H_
#define BOOTAGENT_STAGE_H_

#include <span>
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

// What must be at home before the target starts: the boot set, then the other
// pinned chunks that a target has written, which its boot loader may read.
std::vector<ImageChunk> HomeChunks(const Manifest& manifest,
                                   const BlockMap& map);

// Those of HomeChunks that are not wholly on the disk: of a boot chunk a block
// is missing, or a patch waits for its base.
std::vector<ImageChunk> ChunksToStage(const Manifest& manifest,
                                      const BlockMap& map);

// Bring the `chunks`, as ChunksToStage names them, to the disk: to their homes
// if those are free, else to chunks that are no boot home.  What a target has
// written stays; only what is missing is written.  Only the region is.
// `source` may be null if none but zero chunks of the image are missing.
// Stop points: staged-written (on the disk, read back, not recorded),
// staged-recorded; once for each batch.
Task<Status> StageChunks(const Job& job, MapStore& store,
                         const Manifest& manifest,
                         std::span<const ImageChunk> chunks,
                         ChunkSource* source);

}  // namespace bootstream

#endif  // BOOTAGENT_STAGE_H_
