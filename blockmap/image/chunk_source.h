#ifndef BLOCKMAP_IMAGE_CHUNK_SOURCE_H_
#define BLOCKMAP_IMAGE_CHUNK_SOURCE_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "blockmap/base/types.h"

namespace bootstream {

// Why a chunk is wanted; the lower value goes first.
enum class FetchClass : uint8_t { kDemand, kPrefetch, kReadAhead, kBackfill };

// Why a request did not bring what it was for.
enum class FetchTrouble : uint8_t {
  kConnection,   // none, or it broke
  kStall,        // nothing, or next to nothing, came for too long
  kCertificate,  // TLS: not the server that we are to trust
  kStatus,       // 404, 429, 503, ...
  kWrongReply,   // another range, another length, encoded, endless headers
  kShortReply,   // it ended early
  kDigest,       // all there, and not what the manifest says
};
inline constexpr std::array<std::string_view, 7> kFetchTroubleNames{
    "connection",  "stall",       "certificate", "status",
    "wrong_reply", "short_reply", "digest"};

// Running totals of a source; for status and metrics.
struct FetchStatistics {
  uint64_t requests = 0;
  uint64_t bytes_received = 0;  // bodies, as they came over the network
  uint64_t bytes_refused = 0;   // of them: frames that failed their digest
  uint64_t chunks_delivered = 0;
  uint64_t digest_mismatches = 0;
  uint64_t retries = 0;
  std::array<uint64_t, kFetchTroubleNames.size()> troubles{};
  // Replies that were the whole file where a part was asked for.
  uint64_t whole_files = 0;
  // TLS connections whose certificate was good but for its dates.
  uint64_t dated_certificates = 0;
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
