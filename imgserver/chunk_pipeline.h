#ifndef IMGSERVER_CHUNK_PIPELINE_H_
#define IMGSERVER_CHUNK_PIPELINE_H_

#include <functional>
#include <span>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/types.h"
#include "imgserver/disk_image.h"

namespace bootstream {

// A chunk that has been read, hashed and, if need be, compressed.
struct PreparedChunk {
  uint64_t chunk = 0;
  bool zero = false;
  Sha256 digest{};
  std::vector<std::byte> frame;  // empty: zero, or known already
};

struct PipelineOptions {
  int level = 3;  // of zstd
  unsigned thread_count = 2;
};

// Prepare the chunks in `order` on several threads and hand them to `sink`, on
// this thread, in that order; so what comes out does not depend on how threads
// are scheduled.  Memory is bounded by a window of chunks.  `known`, called on
// any thread, says which digests need no frame.  Ends at the first error.
Status PrepareChunks(const DiskImage& image, const Grid& grid,
                     std::span<const uint64_t> order,
                     const PipelineOptions& options,
                     const std::function<bool(const Sha256&)>& known,
                     const std::function<Status(PreparedChunk)>& sink);

}  // namespace bootstream

#endif  // IMGSERVER_CHUNK_PIPELINE_H_
