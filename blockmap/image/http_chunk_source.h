#ifndef BLOCKMAP_IMAGE_HTTP_CHUNK_SOURCE_H_
#define BLOCKMAP_IMAGE_HTTP_CHUNK_SOURCE_H_

#include <memory>
#include <unordered_map>

#include "blockmap/base/executor.h"
#include "blockmap/image/chunk_source.h"
#include "blockmap/image/fetch_engine.h"
#include "blockmap/image/manifest.h"

namespace bootstream {

// Chunks from the packs of a repository, over HTTP (format.md 1.3).  Network,
// decompression and digest run on threads of their own; Fetch and what it
// resumes are on the executor's.
//
// Neighbours in one pack become one Range request, and each chunk is handed on
// as soon as it has arrived.  Demand goes first: it has requests of its own,
// and backfill keeps out of its way.
class HttpChunkSource final : public ChunkSource {
 public:
  // `options.servers` come after the URLs that the manifest names; with
  // `servers_only` they are the only ones (bootstream.url= on the command
  // line).  kInvalid: there is no server at all.
  static Result<std::unique_ptr<HttpChunkSource>> Create(
      Executor& executor, std::shared_ptr<const Manifest> manifest,
      FetchOptions options, bool servers_only = false);
  // Whoever still waits is resumed with kUnavailable, here.
  ~HttpChunkSource() override;

  Task<Result<AlignedBuffer>> Fetch(ImageChunk chunk,
                                    FetchClass fetch_class) override;
  void Promote(ImageChunk chunk, FetchClass fetch_class) override;
  FetchStatistics statistics() const override { return engine_->statistics(); }

 private:
  struct Waiter {
    Event done;
    std::optional<Result<AlignedBuffer>> result;
  };
  // Outlives the source inside work that is still posted.
  using Waiters = std::unordered_map<uint64_t, Waiter*>;

  HttpChunkSource(Executor& executor, std::shared_ptr<const Manifest> manifest,
                  FetchOptions options);
  FrameKey KeyOf(ImageChunk chunk, const ChunkEntry& entry) const;
  static void Finish(Waiters& waiters, uint64_t id,
                     Result<AlignedBuffer> result);

  std::shared_ptr<const Manifest> manifest_;
  std::shared_ptr<Waiters> waiters_;
  uint64_t next_waiter_ = 0;
  std::unique_ptr<FetchEngine> engine_;
};

}  // namespace bootstream

#endif  // BLOCKMAP_IMAGE_HTTP_CHUNK_SOURCE_H_
