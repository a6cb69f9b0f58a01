#include "bootagent/kept_target.h"

#include <algorithm>
#include <functional>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/disk/probe.h"
#include "bootagent/plan.h"
#include "bootagent/release.h"
#include "bootagent/stage.h"
#include "bootagent/tables.h"

namespace bootstream {
namespace {

std::vector<DiskChunk> RelocatedPlaces(const MapStore& store) {
  std::vector<DiskChunk> places;
  for (const auto& [source, now] : store.map().relocations()) {
    places.push_back(source);
  }
  return places;
}

Task<Status> DropRelocations(const Job& job, MapStore& store) {
  for (const DiskChunk source : RelocatedPlaces(store)) {
    if (store.region().OccupantOf(source).use != ChunkUse::kReserved) {
      co_return Error{ErrorCode::kCorrupt,
                      "the map says that the target lies where the source is"};
    }
    store.SetRelocation(source, std::nullopt);
  }
  if (auto s = co_await store.Commit(); !s) co_return s;
  co_return job.stops.Reach("relocations-dropped");
}

// Clean boot chunks must be what the manifest says: rollback and driver have
// marked those dirty that a boot loader has written to.
Task<Status> ForgetRotten(const Job& job, MapStore& store,
                          const Manifest& manifest) {
  const Grid image = manifest.grid();
  for (const ImageChunk chunk : BootChunks(manifest)) {
    const ChunkState state = store.map().Get(chunk);
    const bool whole = state.location.on_disk() && state.dirty == 0 &&
                       state.valid == image.full_mask(chunk.value);
    if (!whole) continue;
    AlignedBuffer content(image.bytes_of(chunk.value));
    const uint64_t from = image.offset_of(state.location.chunk().value);
    const auto s = co_await job.device.Read(from, content.span());
    if (s && manifest.Matches(chunk, content.span())) continue;
    store.SetChunk(chunk, ChunkState{});
  }
  co_return co_await store.Commit();
}

// Image chunks that lie in the home of another one in `homes`.
std::vector<ImageChunk> Squatters(const MapStore& store,
                                  std::span<const ImageChunk> homes) {
  std::vector<ImageChunk> squatters;
  for (const ImageChunk chunk : homes) {
    const Occupant occupant = store.region().OccupantOf(HomeOf(chunk));
    if (occupant.use == ChunkUse::kImage && occupant.number != chunk.value) {
      squatters.push_back(ImageChunk{occupant.number});
    }
  }
  return squatters;
}

bool IsExpendable(const MapStore& store, const Manifest& manifest,
                  ImageChunk chunk) {
  const ChunkState state = store.map().Get(chunk);
  return state.location.on_disk() && state.dirty == 0 &&
         !IsKept(manifest, chunk);
}

Task<Status> EvictSquatters(MapStore& store, const Manifest& manifest,
                            std::span<const ImageChunk> homes) {
  for (const ImageChunk chunk : Squatters(store, homes)) {
    if (!IsExpendable(store, manifest, chunk)) continue;
    store.SetChunk(chunk, ChunkState{});
  }
  co_return co_await store.Commit();
}

// Nothing but image chunks is ever given a kept home, so that nothing else has
// to be moved.
Task<Status> Vacate(const Job& job, MapStore& store,
                    std::span<const ImageChunk> homes) {
  std::vector<ImageMove> moves;
  const auto place_for = [&store](ImageChunk chunk) {
    PlacementWish wish;
    wish.purpose = PlacementWish::For::kStagedChunk;
    wish.chunk = chunk;
    return store.Allocate(wish, true);
  };
  for (const ImageChunk chunk : Squatters(store, homes)) {
    const auto to = place_for(chunk);
    if (!to) {
      for (const ImageMove& move : moves) store.Release(move.to);
      co_return Error{ErrorCode::kNoSpace, "the region is full"};
    }
    moves.push_back({chunk, *to});
  }
  MoverOptions mover = job.Mover("vacate");
  mover.elsewhere = place_for;
  co_return co_await MoveImageChunks(job.device, store, moves, mover);
}

// Those whose home is in the region go there at once: the source does not see
// that.
Task<Status> Settle(const Job& job, MapStore& store,
                    std::span<const ImageChunk> homes) {
  std::vector<ImageMove> moves;
  for (const ImageChunk chunk : homes) {
    const Location location = store.map().Get(chunk).location;
    const DiskChunk home = HomeOf(chunk);
    if (!location.on_disk() || location == Location::At(home)) continue;
    if (store.map().Relocated(home) || !store.AllocateAt(home)) continue;
    moves.push_back({chunk, home});
  }
  const MoverOptions mover = job.Mover("settle");
  co_return co_await MoveImageChunks(job.device, store, moves, mover);
}

// Those of `chunks` that are still the source's, ascending.
std::vector<DiskChunk> NotOurs(const MapStore& store,
                               std::vector<DiskChunk> chunks) {
  std::ranges::sort(chunks);
  chunks.erase(std::unique(chunks.begin(), chunks.end()), chunks.end());
  std::erase_if(chunks,
                [&](DiskChunk chunk) { return store.region().IsOurs(chunk); });
  return chunks;
}

}  // namespace

Task<Status> TakeSourceAnew(const Job& job, const std::string& serial,
                            MapStore& store) {
  const auto disk = co_await ProbeDisk(job.disk, job.device, serial);
  if (!disk) co_return disk.error();
  if (auto s = CheckDisk(*disk); !s) co_return s;
  if (!RegionIsInPlace(job, store)) {
    co_return Error{ErrorCode::kRefused,
                    "the old system has moved or cut the file "
                    ".bootstream-region, so the new system's data is not where "
                    "it was; bootagent forget gives up what is left of it"};
  }
  const uint64_t fs_offset = store.superblock().source_fs_offset;
  const auto fingerprint = co_await SourceFingerprint(job.device, fs_offset);
  if (!fingerprint) co_return fingerprint.error();
  // The phase first: were the relocations gone and the phase still `relocated`,
  // a stub would be written over a table that has no copy.
  const std::function<void(Superblock&)> change = [&](Superblock& superblock) {
    superblock.phase = Phase::kReleased;
    superblock.keep_target = true;
    superblock.source_fingerprint = *fingerprint;
    superblock.disk = disk->identity;
    superblock.boots_without_health = 0;
    superblock.starts_without_boot = 0;
    superblock.rollback_wished = false;
  };
  auto s = co_await store.UpdateSuperblock(change);
  if (s) s = job.stops.Reach(PhaseName(Phase::kReleased));
  if (!s) co_return s;
  co_return co_await DropRelocations(job, store);
}

Task<Result<InTheWay>> OccupantsInTheWay(const Job& job, const MapStore& store,
                                         const Manifest& manifest) {
  const auto table = co_await ReadSourceTable(job, store);
  if (!table) co_return table.error();
  const Grid disk = store.disk_grid();
  const auto anchor = ChooseAnchor(disk, manifest);
  if (!anchor) co_return anchor.error();
  auto first = SpecialChunks(*table, disk, *anchor);
  for (const ImageChunk chunk : TableChunks(manifest)) {
    first.push_back(HomeOf(chunk));
  }
  std::vector<DiskChunk> homes;
  for (const ImageChunk chunk : HomeChunks(manifest, store.map())) {
    homes.push_back(HomeOf(chunk));
  }
  InTheWay found;
  found.first = NotOurs(store, std::move(first));
  found.homes = NotOurs(store, std::move(homes));
  std::erase_if(found.homes, [&](DiskChunk chunk) {
    return std::ranges::binary_search(found.first, chunk);
  });
  co_return found;
}

Task<Status> MakeRoom(MapStore& store, const Manifest& manifest,
                      uint64_t wanted, uint64_t needed) {
  const auto room = [&] {
    return store.region().plain_available_count(/*use_spare=*/true);
  };
  if (room() >= wanted) co_return OkStatus();
  std::vector<ImageChunk> expendable;
  store.map().ForEach([&](ImageChunk chunk, const ChunkState& state) {
    if (!IsExpendable(store, manifest, chunk)) return;
    const DiskChunk place = state.location.chunk();
    if (store.region().FitForMetadata(place) == Region::Fit::kNever) return;
    expendable.push_back(chunk);
  });
  // The lowest, where file systems have what they need most, stay.
  for (uint64_t missing = wanted - room(); missing > 0 && !expendable.empty();
       --missing) {
    store.SetChunk(expendable.back(), ChunkState{});
    expendable.pop_back();
  }
  if (auto s = co_await store.Commit(); !s) co_return s;
  if (room() >= needed) co_return OkStatus();
  co_return Error{
      ErrorCode::kNoSpace,
      "the region is full of what the new system wrote: " +
          std::to_string(needed - room()) +
          " chunks are missing to put the old system's data aside; nothing is "
          "lost, and the old system stays"};
}

Task<Status> PrepareHomes(const Job& job, MapStore& store,
                          const Manifest& manifest) {
  auto s = co_await ForgetRotten(job, store, manifest);
  if (!s) co_return s;
  const auto homes = HomeChunks(manifest, store.map());
  s = co_await EvictSquatters(store, manifest, homes);
  if (!s) co_return s;
  const auto in_the_way = co_await OccupantsInTheWay(job, store, manifest);
  if (!in_the_way) co_return in_the_way.error();
  const uint64_t moved = Squatters(store, homes).size() +
                         ChunksToStage(manifest, store.map()).size();
  s = co_await MakeRoom(store, manifest, moved + in_the_way->wanted(),
                        moved + in_the_way->needed());
  if (s) s = job.stops.Reach("room-made");
  if (s) s = co_await Vacate(job, store, homes);
  if (s) s = co_await Settle(job, store, homes);
  co_return s;
}

bool IsWhole(const Manifest& manifest, const BlockMap& map) {
  const Grid image = manifest.grid();
  for (const ChunkRun& run : manifest.content().runs) {
    for (uint64_t c = run.first; c < run.first + run.count; ++c) {
      const ChunkState state = map.Get(ImageChunk{c});
      const bool whole =
          state.location.on_disk() && state.valid == image.full_mask(c);
      if (!whole && !state.location.is_zero()) return false;
    }
  }
  return true;
}

}  // namespace bootstream
