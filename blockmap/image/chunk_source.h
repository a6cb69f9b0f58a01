#ifndef BLOCKMAP_IMAGE_CHUNK_SOURCE_H_
#define BLOCKMAP_IMAGE_CHUNK_SOURCE_H_

#include <cstdint>
#include <string>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "blockmap/base/types.h"

namespace bootstream {

// Why a chunk is wanted; the lower value goes first.
enum class FetchClass : uint8_t { kDemand, kPrefetch, kReadAhead, kBackfill };

// Running totals of a source; for status and metrics.
struct FetchStatistics {
  uint64_t requests = 0;
  uint64_t bytes_received = 0;  // bodies, as they came over the network
  uint64_t chunks_delivered = 0;
  uint64_t digest_mismatches = 0;
  uint64_t retries = 0;
  bool waiting = false;      // nothing has come since the last failure
  std::string last_failure;  // for people; empty if there was none
};

// "Give me chunk N, verified."  HttpChunkSource is the real one;
// tests/support has one in memory.  All calls, and the resumption of waiters,
// are on one thread, the executor's.
class ChunkSource {
 public:
  virtual ~ChunkSource() = default;

  // The bytes of `chunk` (grid.bytes_of(chunk) of them), whose digest has
  // matched the manifest.  A zero chunk needs no network.  Two calls for one
  // chunk are two downloads: the caller joins them.  Waits, with back-off and
  // without end, while no server answers, unless the source was made with a
  // limit; then kUnavailable (no answer) or kCorrupt (wrong bytes everywhere).
  virtual Task<Result<AlignedBuffer>> Fetch(ImageChunk chunk,
                                            FetchClass fetch_class) = 0;
  // Somebody now waits for `chunk`, which is being fetched: treat it as
  // `fetch_class` from here on.  Nothing happens if it is not under way.
  virtual void Promote(ImageChunk chunk, FetchClass fetch_class) = 0;
  virtual FetchStatistics statistics() const = 0;
};

}  // namespace bootstream

#endif  // BLOCKMAP_IMAGE_CHUNK_SOURCE_H_
