#include "bootagent/stage.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "blockmap/base/aligned_buffer.h"

namespace bootstream {
namespace {

// So many places may refuse to be written for one chunk.
constexpr int kBadPlacesMax = 4;

// One chunk on its way; `content` is what the whole of it shall be.
struct Staged {
  ImageChunk chunk;
  ChunkState before;
  DiskChunk place;
  uint64_t missing = 0;  // a bit for each block
  AlignedBuffer content;
};

struct Stager {
  const Job& job;
  MapStore& store;
  const Manifest& manifest;
  ChunkSource* source;  // may be null
  Grid image;
  Grid disk;
};

// What the image says, unless the target has made the chunk zero.
Task<Status> FetchBase(const Stager& stager, Staged& staged) {
  if (staged.before.location.is_zero() ||
      stager.manifest.IsZero(staged.chunk)) {
    staged.content = AlignedBuffer(stager.image.bytes_of(staged.chunk.value));
    co_return OkStatus();
  }
  if (stager.source == nullptr) {
    co_return Error{ErrorCode::kUnavailable,
                    "a boot chunk is missing, and there is no server"};
  }
  auto fetched =
      co_await stager.source->Fetch(staged.chunk, FetchClass::kDemand);
  if (!fetched) co_return fetched.error();
  staged.content = std::move(*fetched);
  co_return OkStatus();
}

// Lay what is valid on the disk over the fetched content.
Task<Status> KeepValid(const Stager& stager, Staged& staged) {
  stager.store.map().Merge(staged.chunk, staged.missing, staged.content.span());
  if (staged.before.valid == 0) co_return OkStatus();
  AlignedBuffer there(staged.content.size());
  auto s = co_await stager.job.device.Read(
      stager.disk.offset_of(staged.place.value), there.span());
  if (!s) co_return s;
  for (size_t at = 0; at < there.size(); at += kBlockBytes) {
    if ((staged.missing >> (at / kBlockBytes) & 1) != 0) continue;
    std::memcpy(staged.content.data() + at, there.data() + at, kBlockBytes);
  }
  co_return OkStatus();
}

std::optional<DiskChunk> PlaceFor(const Stager& stager, ImageChunk chunk) {
  PlacementWish wish;
  wish.purpose = PlacementWish::For::kStagedChunk;
  wish.chunk = chunk;
  // A return counts the spare ones in: its map is full of what it keeps.
  return stager.store.Allocate(wish, stager.store.superblock().keep_target);
}

Task<Status> WriteMissing(const Stager& stager, const Staged& staged) {
  const uint64_t to = stager.disk.offset_of(staged.place.value);
  uint64_t left = staged.missing;
  while (left != 0) {
    const int first = std::countr_zero(left);
    const int count = std::countr_one(left >> first);
    const size_t begin = static_cast<size_t>(first) * kBlockBytes;
    const size_t size = static_cast<size_t>(count) * kBlockBytes;
    const auto part = staged.content.span().subspan(begin, size);
    auto s = co_await stager.job.device.Write(to + begin, part);
    if (!s) co_return s;
    left = first + count >= 64 ? 0 : left >> (first + count) << (first + count);
  }
  co_return OkStatus();
}

Task<Status> FetchAndWrite(const Stager& stager, Staged& staged) {
  auto s = co_await FetchBase(stager, staged);
  if (s) s = co_await KeepValid(stager, staged);
  if (!s) co_return s;
  s = co_await WriteMissing(stager, staged);
  const bool is_new = !staged.before.location.on_disk();
  for (int bad_places = 0; !s && is_new; ++bad_places) {
    const auto place = PlaceFor(stager, staged.chunk);
    if (!place || bad_places == kBadPlacesMax) break;
    // The bad place stays reserved: nobody tries it again.
    staged.place = *place;
    s = co_await WriteMissing(stager, staged);
  }
  if (s) stager.job.progress.Add(staged.content.size());
  co_return s;
}

Task<Status> ReadBack(const Stager& stager, const std::vector<Staged>& batch) {
  AlignedBuffer found(stager.disk.chunk_bytes);
  for (const Staged& staged : batch) {
    const auto span = found.span().first(staged.content.size());
    auto s = co_await stager.job.device.Read(
        stager.disk.offset_of(staged.place.value), span);
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

Result<std::vector<Staged>> Allocate(const Stager& stager,
                                     std::span<const ImageChunk> chunks) {
  std::vector<Staged> batch;
  for (const ImageChunk chunk : chunks) {
    const ChunkState before = stager.store.map().Get(chunk);
    const uint64_t all = stager.image.full_mask(chunk.value);
    if (before.location.on_disk()) {
      batch.push_back(
          {chunk, before, before.location.chunk(), all & ~before.valid, {}});
      continue;
    }
    const auto place = PlaceFor(stager, chunk);
    if (!place) {
      return Error{ErrorCode::kNoSpace, "the region cannot hold the boot set"};
    }
    batch.push_back({chunk, before, *place, all, {}});
  }
  return batch;
}

void RecordStaged(const Stager& stager, const Staged& staged) {
  ChunkState state;
  state.location = Location::At(staged.place);
  state.valid = stager.image.full_mask(staged.chunk.value);
  state.dirty = staged.before.dirty;
  for (const Patch& patch : stager.store.map().PatchesOf(staged.chunk)) {
    state.dirty |= uint64_t{1} << (patch.offset / kBlockBytes);
  }
  if (staged.before.location.is_zero()) state.dirty = state.valid;
  stager.store.SetChunk(staged.chunk, state);
}

Task<Status> StageBatch(const Stager& stager,
                        std::span<const ImageChunk> chunks) {
  auto batch = Allocate(stager, chunks);
  if (!batch) co_return batch.error();
  std::vector<Task<Status>> tasks;
  for (Staged& staged : *batch) tasks.push_back(FetchAndWrite(stager, staged));
  auto s = co_await JoinAll(std::move(tasks));
  if (s) s = co_await stager.job.device.Flush();
  if (s) s = co_await ReadBack(stager, *batch);
  if (s) s = stager.job.stops.Reach("staged-written");
  if (!s) co_return s;
  for (const Staged& staged : *batch) RecordStaged(stager, staged);
  if (s = co_await stager.store.Commit(); !s) co_return s;
  co_return stager.job.stops.Reach("staged-recorded");
}

template <typename Visit>
void ForEachChunk(const std::vector<ChunkExtent>& extents, Visit visit) {
  for (const ChunkExtent& extent : extents) {
    for (uint64_t i = 0; i < extent.count; ++i) {
      visit(ImageChunk{extent.first + i});
    }
  }
}

}  // namespace

std::vector<ImageChunk> BootChunks(const Manifest& manifest) {
  std::vector<ImageChunk> chunks;
  ForEachChunk(manifest.content().boot_set,
               [&](ImageChunk chunk) { chunks.push_back(chunk); });
  return chunks;
}

std::vector<ImageChunk> HomeChunks(const Manifest& manifest,
                                   const BlockMap& map) {
  std::vector<ImageChunk> chunks = BootChunks(manifest);
  ForEachChunk(manifest.content().pinned, [&](ImageChunk chunk) {
    if (!manifest.InBootSet(chunk) && !map.Get(chunk).location.is_absent()) {
      chunks.push_back(chunk);
    }
  });
  return chunks;
}

std::vector<ImageChunk> ChunksToStage(const Manifest& manifest,
                                      const BlockMap& map) {
  std::vector<ImageChunk> chunks = HomeChunks(manifest, map);
  std::erase_if(chunks, [&](ImageChunk chunk) {
    const ChunkState state = map.Get(chunk);
    if (!state.location.on_disk()) return false;
    if (state.valid == manifest.grid().full_mask(chunk.value)) return true;
    return !manifest.InBootSet(chunk) && map.PatchesOf(chunk).empty();
  });
  return chunks;
}

Task<Status> StageChunks(const Job& job, MapStore& store,
                         const Manifest& manifest,
                         std::span<const ImageChunk> chunks,
                         ChunkSource* source) {
  const Stager stager{job,    store,           manifest,
                      source, manifest.grid(), store.disk_grid()};
  job.progress.Start("stage", chunks.size() * stager.image.chunk_bytes);
  for (size_t at = 0; at < chunks.size(); at += job.batch_chunks) {
    const auto batch = chunks.subspan(
        at, std::min<size_t>(job.batch_chunks, chunks.size() - at));
    if (auto s = co_await StageBatch(stager, batch); !s) co_return s;
  }
  job.progress.Finish();
  co_return OkStatus();
}

}  // namespace bootstream
