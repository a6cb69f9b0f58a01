#include "blockmap/image/http_chunk_source.h"

#include <algorithm>
#include <utility>

#include "blockmap/image/pack.h"

namespace bootstream {
namespace {

std::vector<FetchEngine::PackFile> PackFiles(const Manifest& manifest) {
  std::vector<FetchEngine::PackFile> files;
  for (const PackEntry& pack : manifest.content().packs) {
    files.push_back({PackPath(pack.digest), pack.size_bytes});
  }
  return files;
}

}  // namespace

Result<std::unique_ptr<HttpChunkSource>> HttpChunkSource::Create(
    Executor& executor, std::shared_ptr<const Manifest> manifest,
    FetchOptions options, bool servers_only) {
  std::vector<std::string> servers;
  if (!servers_only) servers = manifest->content().base_urls;
  for (const auto& url : options.servers) {
    if (std::find(servers.begin(), servers.end(), url) == servers.end()) {
      servers.push_back(url);
    }
  }
  if (servers.empty()) {
    return Error{ErrorCode::kInvalid, "no server to fetch the image from"};
  }
  options.servers = std::move(servers);
  return std::unique_ptr<HttpChunkSource>(
      new HttpChunkSource(executor, std::move(manifest), std::move(options)));
}

HttpChunkSource::HttpChunkSource(Executor& executor,
                                 std::shared_ptr<const Manifest> manifest,
                                 FetchOptions options)
    : manifest_(std::move(manifest)), waiters_(std::make_shared<Waiters>()) {
  engine_ = std::make_unique<FetchEngine>(
      std::move(options), PackFiles(*manifest_),
      [&executor, waiters = waiters_](uint64_t id,
                                      Result<AlignedBuffer> result) {
        auto shared =
            std::make_shared<Result<AlignedBuffer>>(std::move(result));
        executor.Post([waiters, id, shared] {
          Finish(*waiters, id, std::move(*shared));
        });
      });
}

HttpChunkSource::~HttpChunkSource() {
  engine_.reset();  // nothing is posted from here on
  const auto waiters = waiters_;
  while (!waiters->empty()) {
    Finish(*waiters, waiters->begin()->first,
           Error{ErrorCode::kUnavailable, "fetching has ended"});
  }
}

void HttpChunkSource::Finish(Waiters& waiters, uint64_t id,
                             Result<AlignedBuffer> result) {
  const auto found = waiters.find(id);
  if (found == waiters.end()) return;  // the source has gone meanwhile
  Waiter* waiter = found->second;
  waiters.erase(found);
  waiter->result.emplace(std::move(result));
  waiter->done.Set();
}

FrameKey HttpChunkSource::KeyOf(ImageChunk chunk,
                                const ChunkEntry& entry) const {
  return FrameKey{entry.pack, entry.pack_offset, entry.packed_bytes,
                  manifest_->grid().bytes_of(chunk.value), entry.digest};
}

Task<Result<AlignedBuffer>> HttpChunkSource::Fetch(ImageChunk chunk,
                                                   FetchClass fetch_class) {
  if (chunk.value >= manifest_->grid().chunk_count()) {
    co_return Error{ErrorCode::kInvalid,
                    "the image has no chunk " + std::to_string(chunk.value)};
  }
  const ChunkEntry* entry = manifest_->Find(chunk);
  if (entry == nullptr) {
    co_return AlignedBuffer(manifest_->grid().bytes_of(chunk.value));
  }
  Waiter waiter;
  const uint64_t id = next_waiter_++;
  waiters_->emplace(id, &waiter);
  engine_->Fetch(KeyOf(chunk, *entry), fetch_class, id);
  co_await waiter.done;  // `this` may be gone
  co_return std::move(*waiter.result);
}

void HttpChunkSource::Promote(ImageChunk chunk, FetchClass fetch_class) {
  if (chunk.value >= manifest_->grid().chunk_count()) return;
  if (const ChunkEntry* entry = manifest_->Find(chunk)) {
    engine_->Promote(KeyOf(chunk, *entry), fetch_class);
  }
}

}  // namespace bootstream
