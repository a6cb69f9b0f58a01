#include "bootagent/stage.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "blockmap/base/aligned_buffer.h"

namespace bootstream {
namespace {

struct Staged {
  ImageChunk chunk;
  DiskChunk place;
  AlignedBuffer content;
};

Task<Status> FetchAndWrite(const Job& job, const Grid& grid,
                           ChunkSource& source, Staged& staged) {
  auto content = co_await source.Fetch(staged.chunk, FetchClass::kDemand);
  if (!content) co_return content.error();
  staged.content = std::move(*content);
  auto s = co_await job.device.Write(grid.offset_of(staged.place.value),
                                     staged.content.span());
  if (s) job.progress.Add(staged.content.size());
  co_return s;
}

Task<Status> ReadBack(const Job& job, const Grid& grid,
                      const std::vector<Staged>& batch) {
  AlignedBuffer found(grid.chunk_bytes);
  for (const Staged& staged : batch) {
    const auto span = found.span().first(staged.content.size());
    auto s = co_await job.device.Read(grid.offset_of(staged.place.value), span);
    if (!s) co_return s;
    if (std::memcmp(span.data(), staged.content.data(), span.size()) != 0) {
      co_return Error{ErrorCode::kIo,
                      "what was written to disk chunk " +
                          std::to_string(staged.place.value) +
                          " reads back wrong: the disk is failing"};
    }
  }
  co_return OkStatus();
}

Result<std::vector<Staged>> Allocate(MapStore& store,
                                     std::span<const ImageChunk> chunks) {
  std::vector<Staged> batch;
  for (const ImageChunk chunk : chunks) {
    PlacementWish wish;
    wish.purpose = PlacementWish::For::kStagedChunk;
    wish.chunk = chunk;
    const auto place = store.Allocate(wish);
    if (!place) {
      return Error{ErrorCode::kNoSpace, "the region cannot hold the boot set"};
    }
    batch.push_back({chunk, *place, {}});
  }
  return batch;
}

Task<Status> StageBatch(const Job& job, MapStore& store, const Grid& image,
                        ChunkSource& source,
                        std::span<const ImageChunk> chunks) {
  auto batch = Allocate(store, chunks);
  if (!batch) co_return batch.error();
  const Grid disk = store.disk_grid();
  std::vector<Task<Status>> tasks;
  for (Staged& staged : *batch) {
    tasks.push_back(FetchAndWrite(job, disk, source, staged));
  }
  auto s = co_await JoinAll(std::move(tasks));
  if (s) s = co_await job.device.Flush();
  if (s) s = co_await ReadBack(job, disk, *batch);
  if (s) s = job.stops.Reach("staged-written");
  if (!s) co_return s;
  for (const Staged& staged : *batch) {
    store.SetChunk(staged.chunk, {Location::At(staged.place),
                                  image.full_mask(staged.chunk.value), 0});
  }
  if (s = co_await store.Commit(); !s) co_return s;
  co_return job.stops.Reach("staged-recorded");
}

}  // namespace

std::vector<ImageChunk> BootChunks(const Manifest& manifest) {
  std::vector<ImageChunk> chunks;
  for (const ChunkExtent& extent : manifest.content().boot_set) {
    for (uint64_t i = 0; i < extent.count; ++i) {
      chunks.push_back(ImageChunk{extent.first + i});
    }
  }
  return chunks;
}

Task<Status> StageBootSet(const Job& job, MapStore& store,
                          const Manifest& manifest, ChunkSource& source) {
  std::vector<ImageChunk> missing;
  for (const ImageChunk chunk : BootChunks(manifest)) {
    if (!store.map().Get(chunk).location.on_disk()) missing.push_back(chunk);
  }
  const Grid image = manifest.grid();
  job.progress.Start("stage", missing.size() * image.chunk_bytes);
  for (size_t at = 0; at < missing.size(); at += job.batch_chunks) {
    const auto batch = std::span(missing).subspan(
        at, std::min<size_t>(job.batch_chunks, missing.size() - at));
    auto s = co_await StageBatch(job, store, image, source, batch);
    if (!s) co_return s;
  }
  job.progress.Finish();
  co_return OkStatus();
}

}  // namespace bootstream
