#include "blockmap/disk/mover.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>

#include "blockmap/base/aligned_buffer.h"

namespace bootstream {
namespace {

// So many places of one batch may refuse to be written; a disk with more of
// them is dying.
constexpr int kBadPlacesMax = 16;

// One copy of a batch.
struct Copy {
  uint64_t from = 0;  // bytes
  uint64_t to = 0;
  uint32_t size = 0;
};

Status After(const MoverOptions& options, std::string_view what) {
  return options.after ? options.after(what) : OkStatus();
}

void Report(const MoverOptions& options, uint64_t chunks) {
  if (options.progress) options.progress(chunks);
}

// True if the two differ anywhere but in `skip`.
bool Differ(std::span<const std::byte> a, std::span<const std::byte> b,
            uint64_t offset, SkippedSectors skip) {
  for (size_t at = 0; at < a.size(); at += kSectorBytes) {
    const size_t size = std::min<size_t>(kSectorBytes, a.size() - at);
    if (std::memcmp(a.data() + at, b.data() + at, size) == 0) continue;
    const uint64_t where = offset + at;
    const bool skipped = std::ranges::any_of(skip, [&](const ByteExtent& e) {
      return where >= e.offset && where < e.end();
    });
    if (!skipped) return true;
  }
  return false;
}

// A batch's memory and its way to the disk: copy all, flush, compare.
class Batch {
 public:
  Batch(BlockDevice& device, SkippedSectors skip)
      : device_(device), skip_(skip) {}
  void Add(Copy copy) {
    copies_.push_back(copy);
    bytes_ += copy.size;
  }
  // The number of the copy that Run could not write, if it ended for that.
  std::optional<size_t> unwritable() const { return unwritable_; }
  void Redirect(size_t copy, uint64_t to) { copies_[copy].to = to; }

  Task<Status> Run(bool verify) {
    unwritable_.reset();
    AlignedBuffer content(bytes_);
    if (auto s = co_await ReadAll(content, &Copy::from); !s) co_return s;
    size_t at = 0;
    for (size_t i = 0; i < copies_.size(); ++i) {
      const Copy copy = copies_[i];
      const auto data = content.span().subspan(at, copy.size);
      auto s = co_await WriteAround(device_, copy.to, data, skip_);
      if (!s) {
        unwritable_ = i;
        co_return s;
      }
      at += copy.size;
    }
    if (auto s = co_await device_.Flush(); !s) co_return s;
    if (!verify) co_return OkStatus();
    co_return co_await Compare(content);
  }

 private:
  Task<Status> ReadAll(AlignedBuffer& out, uint64_t Copy::*place) {
    size_t at = 0;
    for (const Copy& copy : copies_) {
      auto s =
          co_await device_.Read(copy.*place, out.span().subspan(at, copy.size));
      if (!s) co_return s;
      at += copy.size;
    }
    co_return OkStatus();
  }
  Task<Status> Compare(const AlignedBuffer& wanted) {
    AlignedBuffer found(bytes_);
    if (auto s = co_await ReadAll(found, &Copy::to); !s) co_return s;
    size_t at = 0;
    for (const Copy& copy : copies_) {
      if (Differ(wanted.span().subspan(at, copy.size),
                 found.span().subspan(at, copy.size), copy.to, skip_)) {
        co_return Error{ErrorCode::kIo,
                        "what was written at byte " + std::to_string(copy.to) +
                            " reads back wrong: the disk is failing"};
      }
      at += copy.size;
    }
    co_return OkStatus();
  }

  BlockDevice& device_;
  SkippedSectors skip_;
  std::vector<Copy> copies_;
  uint64_t bytes_ = 0;
  std::optional<size_t> unwritable_;
};

using Elsewhere = std::function<std::optional<DiskChunk>(size_t)>;

// Run `batch`; a copy whose place takes no write goes where `elsewhere` says.
// The place that it leaves stays reserved, so that nobody tries it again.
Task<Status> RunAround(Batch& batch, const Grid& grid, bool verify,
                       const Elsewhere& elsewhere) {
  for (int bad_places = 0;; ++bad_places) {
    Status s = co_await batch.Run(verify);
    const auto copy = batch.unwritable();
    if (s || s.error().code != ErrorCode::kIo) co_return s;
    if (!copy || bad_places == kBadPlacesMax) co_return s;
    const auto place = elsewhere(*copy);
    if (!place) co_return s;
    batch.Redirect(*copy, grid.offset_of(place->value));
  }
}

Copy CopyOf(const Grid& grid, DiskChunk from, DiskChunk to, uint32_t size) {
  return {grid.offset_of(from.value), grid.offset_of(to.value), size};
}

uint32_t BytesOnDisk(const Grid& disk, DiskChunk chunk) {
  return disk.bytes_of(chunk.value);
}

std::optional<DiskChunk> PlaceForSource(MapStore& store) {
  PlacementWish wish;
  wish.purpose = PlacementWish::For::kSource;
  return store.Allocate(wish, true);
}

Task<Status> RelocateBatch(BlockDevice& device, MapStore& store,
                           std::span<const DiskChunk> sources,
                           const MoverOptions& options) {
  const Grid grid = store.disk_grid();
  std::vector<DiskChunk> places;
  const auto give_back = [&] {
    for (const DiskChunk place : places) store.Release(place);
  };
  Batch batch(device, {});
  for (const DiskChunk source : sources) {
    const auto place = PlaceForSource(store);
    if (!place) {
      give_back();
      co_return Error{ErrorCode::kNoSpace,
                      "the region is full: no chunk is free for the source's "
                      "chunk " +
                          std::to_string(source.value)};
    }
    places.push_back(*place);
    const DiskChunk now = store.map().Relocated(source).value_or(source);
    batch.Add(CopyOf(grid, now, *place, BytesOnDisk(grid, source)));
  }
  const Elsewhere elsewhere = [&](size_t i) {
    const auto place = PlaceForSource(store);
    if (place) places[i] = *place;
    return place;
  };
  auto copied = co_await RunAround(batch, grid, options.verify, elsewhere);
  if (!copied) {
    give_back();
    co_return copied;
  }
  if (auto s = After(options, "copied"); !s) {
    give_back();
    co_return s;
  }
  for (size_t i = 0; i < sources.size(); ++i) {
    store.SetRelocation(sources[i], places[i]);
  }
  if (auto s = co_await store.Commit(); !s) co_return s;
  Report(options, sources.size());
  co_return After(options, "recorded");
}

Task<Status> MoveBatch(BlockDevice& device, MapStore& store,
                       std::vector<ImageMove> moves,
                       const MoverOptions& options) {
  const Grid grid = store.disk_grid();
  const Grid image{grid.chunk_bytes, store.superblock().image_bytes};
  Batch batch(device, {});
  for (const ImageMove& move : moves) {
    const ChunkState state = store.map().Get(move.chunk);
    batch.Add(CopyOf(grid, state.location.chunk(), move.to,
                     image.bytes_of(move.chunk.value)));
  }
  const Elsewhere elsewhere = [&](size_t i) {
    std::optional<DiskChunk> place;
    if (options.elsewhere) place = options.elsewhere(moves[i].chunk);
    if (place) moves[i].to = *place;
    return place;
  };
  auto copied = co_await RunAround(batch, grid, options.verify, elsewhere);
  if (!copied) co_return copied;
  if (auto s = After(options, "copied"); !s) co_return s;
  for (const ImageMove& move : moves) {
    ChunkState state = store.map().Get(move.chunk);
    state.location = Location::At(move.to);
    store.SetChunk(move.chunk, state);
  }
  if (auto s = co_await store.Commit(); !s) co_return s;
  Report(options, moves.size());
  co_return After(options, "recorded");
}

Task<Status> RestoreBatch(BlockDevice& device, MapStore& store,
                          std::span<const DiskChunk> sources,
                          SkippedSectors skip, bool record,
                          const MoverOptions& options) {
  const Grid grid = store.disk_grid();
  Batch batch(device, skip);
  for (const DiskChunk source : sources) {
    const auto now = store.map().Relocated(source);
    if (now) {
      batch.Add(CopyOf(grid, *now, source, BytesOnDisk(grid, source)));
    }
  }
  if (auto s = co_await batch.Run(options.verify); !s) co_return s;
  if (auto s = After(options, "copied"); !s) co_return s;
  if (record) {
    for (const DiskChunk source : sources) {
      store.SetRelocation(source, std::nullopt);
    }
    if (auto s = co_await store.Commit(); !s) co_return s;
  }
  Report(options, sources.size());
  co_return After(options, "recorded");
}

template <typename T>
std::span<const T> NextBatch(std::span<const T> all, size_t at,
                             const MoverOptions& options) {
  return all.subspan(at,
                     std::min<size_t>(options.batch_chunks, all.size() - at));
}

}  // namespace

Task<Status> WriteAround(BlockDevice& device, uint64_t offset,
                         std::span<const std::byte> data, SkippedSectors skip) {
  std::vector<ByteExtent> holes(skip.begin(), skip.end());
  std::ranges::sort(holes);
  const uint64_t end = offset + data.size();
  uint64_t at = offset;
  for (const ByteExtent& hole : holes) {
    if (hole.end() <= at || hole.offset >= end) continue;
    if (hole.offset > at) {
      auto s = co_await device.Write(
          at, data.subspan(at - offset, hole.offset - at));
      if (!s) co_return s;
    }
    at = std::min(end, hole.end());
  }
  if (at == end) co_return OkStatus();
  co_return co_await device.Write(at, data.subspan(at - offset));
}

Task<Status> Relocate(BlockDevice& device, MapStore& store,
                      std::span<const DiskChunk> sources,
                      const MoverOptions& options) {
  for (size_t at = 0; at < sources.size();) {
    const auto batch = NextBatch(sources, at, options);
    auto s = co_await RelocateBatch(device, store, batch, options);
    if (!s) co_return s;
    at += batch.size();
  }
  co_return OkStatus();
}

Task<Status> MoveImageChunks(BlockDevice& device, MapStore& store,
                             std::span<const ImageMove> moves,
                             const MoverOptions& options) {
  for (size_t at = 0; at < moves.size();) {
    const auto batch = NextBatch(moves, at, options);
    const std::vector<ImageMove> own(batch.begin(), batch.end());
    auto s = co_await MoveBatch(device, store, own, options);
    if (!s) co_return s;
    at += batch.size();
  }
  co_return OkStatus();
}

Task<Status> RestoreSource(BlockDevice& device, MapStore& store,
                           std::span<const DiskChunk> sources,
                           SkippedSectors skip, bool record,
                           const MoverOptions& options) {
  for (size_t at = 0; at < sources.size();) {
    const auto batch = NextBatch(sources, at, options);
    auto s = co_await RestoreBatch(device, store, batch, skip, record, options);
    if (!s) co_return s;
    at += batch.size();
  }
  co_return OkStatus();
}

Task<Result<std::optional<DiskChunk>>> FindChangedSource(BlockDevice& device,
                                                         const MapStore& store,
                                                         SkippedSectors skip) {
  const Grid grid = store.disk_grid();
  AlignedBuffer there(grid.chunk_bytes), copy(grid.chunk_bytes);
  for (const auto& [source, now] : store.map().relocations()) {
    const uint32_t size = BytesOnDisk(grid, source);
    auto s = co_await device.Read(grid.offset_of(source.value),
                                  there.span().first(size));
    if (s) {
      s = co_await device.Read(grid.offset_of(now.value),
                               copy.span().first(size));
    }
    if (!s) co_return s.error();
    if (Differ(there.span().first(size), copy.span().first(size),
               grid.offset_of(source.value), skip)) {
      co_return std::optional<DiskChunk>(source);
    }
  }
  co_return std::optional<DiskChunk>();
}

}  // namespace bootstream
