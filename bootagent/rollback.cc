#include "bootagent/rollback.h"

#include <algorithm>
#include <set>

#include "blockmap/base/aligned_buffer.h"
#include "bootagent/attempts.h"
#include "bootagent/migrate.h"
#include "bootagent/plan.h"
#include "bootagent/stage.h"
#include "bootagent/tables.h"

namespace bootstream {
namespace {

Error NoRoom() {
  return Error{ErrorCode::kNoSpace,
               "the region is full of data that exists nowhere else, so there "
               "is no room to exchange it; delete files in the target first"};
}

class RollbackRun {
 public:
  RollbackRun(const Job& job, Located located)
      : job_(job), located_(std::move(located)) {}

  Task<Status> Open();
  const Superblock& superblock() const { return store_->superblock(); }
  Task<Status> Run();

 private:
  Task<Status> Record(Phase phase);
  Task<Status> ForgetRelocations();
  Task<Status> KeepBootWrites();
  Task<Status> LearnSource();
  Task<Status> ClaimPlaces(std::span<const DiskChunk> places);
  Task<Status> EvictClean(size_t count);
  Task<Status> VacateTables();
  Task<Status> Disarm();
  Task<Status> Exchange();
  Task<Status> ExchangeBatch(std::span<const DiskChunk> sources);
  Task<Status> Vacate(std::span<const DiskChunk> places);
  Task<Status> VacateImage(std::span<const ImageChunk> chunks);
  Task<Status> RestoreAnchorChunk();
  Task<Status> Finish();
  void ReservePlaces(std::span<const DiskChunk> places);
  std::vector<DiskChunk> Relocated() const;

  const Job& job_;
  Located located_;
  std::shared_ptr<const Manifest> manifest_;
  std::unique_ptr<MapStore> store_;
  std::vector<ByteExtent> table_sectors_;  // the source's, LBA 0 last
  std::set<DiskChunk> table_chunks_;       // that they lie in
};

Task<Status> RollbackRun::Open() {
  auto opened =
      co_await OpenMigration(job_, *located_.superblock, /*read_only=*/false);
  if (!opened) co_return opened.error();
  manifest_ = opened->manifest;
  store_ = std::move(opened->store);
  co_return OkStatus();
}

Task<Status> RollbackRun::Run() {
  const Phase phase = superblock().phase;
  if (located_.by == Located::By::kRegionFile) {
    // The source's table stands: either nothing of the source was touched yet,
    // or everything is back already.  The phase goes first: a map without
    // relocations that says `relocated` would lead a migration to write its
    // stub over a table that has no copy.
    if (phase != Phase::kParked) {
      if (auto s = co_await Record(Phase::kParked); !s) co_return s;
    }
    co_return co_await ForgetRelocations();
  }
  if (auto s = co_await LearnSource(); !s) co_return s;
  if (phase == Phase::kParked) co_return co_await Finish();
  Status s;
  if (phase >= Phase::kWritten && phase != Phase::kRollingBack) {
    s = co_await KeepBootWrites();
  }
  if (s) s = co_await Record(Phase::kRollingBack);
  const auto places = Relocated();
  if (s) s = co_await ClaimPlaces(places);
  if (s) s = co_await VacateTables();
  if (s) s = co_await Disarm();
  if (s) s = co_await Exchange();
  if (s) s = co_await RestoreAnchorChunk();
  if (s) s = co_await Record(Phase::kParked);
  if (s) s = co_await Finish();
  co_return s;
}

Task<Status> RollbackRun::Record(Phase phase) {
  auto s = co_await store_->UpdateSuperblock([phase](Superblock& superblock) {
    superblock.phase = phase;
    if (phase == Phase::kParked) superblock.rollback_wished = false;
  });
  if (!s) co_return s;
  co_return job_.stops.Reach(PhaseName(phase));
}

std::vector<DiskChunk> RollbackRun::Relocated() const {
  std::vector<DiskChunk> chunks;
  for (const auto& [source, now] : store_->map().relocations()) {
    chunks.push_back(source);
  }
  return chunks;
}

// The source's chunks are in their places: drop the copies.
Task<Status> RollbackRun::ForgetRelocations() {
  const auto places = Relocated();
  if (auto s = co_await ClaimPlaces(places); !s) co_return s;
  for (const DiskChunk source : places) {
    if (store_->region().OccupantOf(source).use != ChunkUse::kReserved) {
      co_return Error{ErrorCode::kCorrupt,
                      "the map says that the target lies where the source is"};
    }
    store_->SetRelocation(source, std::nullopt);
  }
  if (auto s = co_await store_->Commit(); !s) co_return s;
  co_return job_.stops.Reach("relocations-forgotten");
}

// Firmware and boot loader may have written to the boot set before the driver
// ran, which nobody has recorded: what differs from the manifest is the
// target's, and is neither given up nor fetched again.
Task<Status> RollbackRun::KeepBootWrites() {
  const Grid image = manifest_->grid();
  for (const ImageChunk chunk : BootChunks(*manifest_)) {
    ChunkState state = store_->map().Get(chunk);
    const uint64_t all = image.full_mask(chunk.value);
    const bool clean_at_home = state.location == Location::At(HomeOf(chunk)) &&
                               state.valid == all && state.dirty == 0;
    if (!clean_at_home) continue;
    AlignedBuffer content(image.bytes_of(chunk.value));
    const uint64_t from = image.offset_of(chunk.value);
    // What cannot be read is left to the exchange.
    const auto read = co_await job_.device.Read(from, content.span());
    if (!read || manifest_->Matches(chunk, content.span())) continue;
    state.dirty = all;
    store_->SetChunk(chunk, state);
  }
  co_return co_await store_->Commit();
}

Task<Status> RollbackRun::LearnSource() {
  const auto source = co_await ReadSourceTable(job_, *store_);
  if (!source) co_return source.error();
  table_sectors_ = SourceTableSectors(*source);
  const uint32_t chunk_bytes = store_->disk_grid().chunk_bytes;
  for (const ByteExtent& sector : table_sectors_) {
    table_chunks_.insert(DiskChunk{sector.offset / chunk_bytes});
  }
  co_return OkStatus();
}

void RollbackRun::ReservePlaces(std::span<const DiskChunk> places) {
  for (const DiskChunk place : places) {
    if (store_->region().OccupantOf(place).use == ChunkUse::kFree) {
      store_->AllocateAt(place);
    }
  }
}

// Nothing new may settle in places that go back to the source.  Metadata that
// lies in one moves; image chunks, copies and the anchor are left to their own
// steps.
Task<Status> RollbackRun::ClaimPlaces(std::span<const DiskChunk> places) {
  const uint64_t anchor = store_->superblock().anchor_offset;
  const uint32_t chunk_bytes = store_->disk_grid().chunk_bytes;
  const auto use = [this](DiskChunk place) {
    return store_->region().OccupantOf(place).use;
  };
  for (const DiskChunk place : places) {
    const bool anchors = anchor != kNone && place.value == anchor / chunk_bytes;
    if (use(place) != ChunkUse::kMetadata || anchors) continue;
    if (auto s = co_await store_->MoveMetadata(place); !s) co_return s;
  }
  ReservePlaces(places);
  const auto is_free = [&](DiskChunk place) {
    return use(place) == ChunkUse::kFree;
  };
  if (std::ranges::none_of(places, is_free)) co_return OkStatus();
  // What is left is held back for metadata.
  if (auto s = co_await EvictClean(places.size()); !s) co_return s;
  ReservePlaces(places);
  if (std::ranges::any_of(places, is_free)) co_return NoRoom();
  co_return OkStatus();
}

// Give up to `count` clean image chunks up: they can be fetched again.  The
// boot set last: with it a return needs no server.
Task<Status> RollbackRun::EvictClean(size_t count) {
  std::vector<ImageChunk> clean;
  std::vector<ImageChunk> kept;
  store_->map().ForEach([&](ImageChunk chunk, const ChunkState& state) {
    if (!state.location.on_disk() || state.dirty != 0 ||
        store_->map().Relocated(state.location.chunk())) {
      return;
    }
    (IsKept(*manifest_, chunk) ? kept : clean).push_back(chunk);
  });
  clean.insert(clean.end(), kept.begin(), kept.end());
  if (clean.size() > count) clean.resize(count);
  for (const ImageChunk chunk : clean) store_->SetChunk(chunk, ChunkState{});
  co_return co_await store_->Commit();
}

// Image chunks that lie in `places` move to chunks that stay ours.
Task<Status> RollbackRun::Vacate(std::span<const DiskChunk> places) {
  std::vector<ImageChunk> chunks;
  std::vector<DiskChunk> copies;
  for (const DiskChunk place : places) {
    const Occupant occupant = store_->region().OccupantOf(place);
    if (occupant.use == ChunkUse::kImage) {
      chunks.push_back(ImageChunk{occupant.number});
    } else if (occupant.use == ChunkUse::kSource) {
      copies.push_back(DiskChunk{occupant.number});
    }
  }
  if (auto s = co_await VacateImage(chunks); !s) co_return s;
  if (!copies.empty()) {
    auto s = co_await Relocate(job_.device, *store_, copies,
                               job_.Mover("exchange-copy"));
    if (!s) co_return s;
  }
  co_return co_await ClaimPlaces(places);
}

Task<Status> RollbackRun::VacateImage(std::span<const ImageChunk> chunks) {
  std::vector<ImageMove> moves;
  const auto place_for = [this](ImageChunk chunk) {
    PlacementWish wish;
    wish.chunk = chunk;
    return store_->Allocate(wish, true);
  };
  for (const ImageChunk chunk : chunks) {
    const auto to = place_for(chunk);
    if (to) {
      moves.push_back({chunk, *to});
    } else if (store_->map().Get(chunk).dirty == 0) {
      store_->SetChunk(chunk, ChunkState{});  // it can be fetched again
    } else {
      for (const ImageMove& move : moves) store_->Release(move.to);
      co_return NoRoom();
    }
  }
  if (store_->has_changes()) {
    if (auto s = co_await store_->Commit(); !s) co_return s;
  }
  MoverOptions mover = job_.Mover("exchange-target");
  mover.elsewhere = place_for;
  co_return co_await MoveImageChunks(job_.device, *store_, moves, mover);
}

// The sectors that the stub and the invalid tables take belong to image chunks
// once the target is armed; those move away whole.
Task<Status> RollbackRun::VacateTables() {
  std::vector<DiskChunk> places(table_chunks_.begin(), table_chunks_.end());
  for (const ImageChunk chunk : TableChunks(*manifest_)) {
    if (store_->map().Relocated(HomeOf(chunk))) places.push_back(HomeOf(chunk));
  }
  co_return co_await Vacate(places);
}

// LBA 0 becomes the stub; then LBA 1 and the target's backup header, where that
// lies in a place that goes back, become invalid.
Task<Status> RollbackRun::Disarm() {
  std::vector<ByteExtent> others;
  const auto& tables = manifest_->content().tables;
  const uint32_t chunk_bytes = store_->disk_grid().chunk_bytes;
  for (const ByteExtent& table : tables) {
    const DiskChunk place{table.offset / chunk_bytes};
    const bool header = table.size == kSectorBytes && table.offset != 0;
    if (header && store_->map().Relocated(place)) others.push_back(table);
  }
  std::ranges::sort(others);
  co_return co_await WriteStub(job_, *store_, others, "target");
}

Task<Status> RollbackRun::Exchange() {
  auto sources = Relocated();
  const uint64_t anchor = store_->superblock().anchor_offset;
  std::erase_if(sources, [&](DiskChunk chunk) {
    return table_chunks_.contains(chunk) ||
           (anchor != kNone &&
            chunk.value == anchor / store_->disk_grid().chunk_bytes);
  });
  // Places in which nobody lies come first: each gives a free chunk back.
  std::stable_partition(
      sources.begin(), sources.end(), [this](DiskChunk place) {
        const ChunkUse use = store_->region().OccupantOf(place).use;
        return use != ChunkUse::kImage && use != ChunkUse::kSource;
      });
  job_.progress.Start("exchange", sources.size(), Progress::Unit::kItems);
  for (size_t at = 0; at < sources.size();) {
    // A batch needs as many free chunks as it has places to empty.
    const uint64_t room = store_->region().available_count(true);
    const size_t count =
        std::min({uint64_t{job_.batch_chunks}, sources.size() - at,
                  std::max<uint64_t>(room, 1)});
    auto s = co_await ExchangeBatch(std::span(sources).subspan(at, count));
    if (!s) co_return s;
    at += count;
  }
  job_.progress.Finish();
  co_return OkStatus();
}

Task<Status> RollbackRun::ExchangeBatch(std::span<const DiskChunk> sources) {
  if (auto s = co_await Vacate(sources); !s) co_return s;
  const std::span<const ByteExtent> whole;
  co_return co_await RestoreSource(job_.device, *store_, sources, whole, true,
                                   job_.Mover("exchange-source"));
}

Task<Status> RollbackRun::RestoreAnchorChunk() {
  const uint64_t offset = store_->superblock().anchor_offset;
  if (offset != kNone) {
    if (auto s = co_await store_->ClearAnchor(); !s) co_return s;
    if (auto s = job_.stops.Reach("anchor-cleared"); !s) co_return s;
  }
  std::vector<DiskChunk> left = Relocated();
  if (auto s = co_await ClaimPlaces(left); !s) co_return s;
  std::erase_if(left,
                [this](DiskChunk c) { return table_chunks_.contains(c); });
  const std::span<const ByteExtent> whole;
  auto s = co_await RestoreSource(job_.device, *store_, left, whole, true,
                                  job_.Mover("anchor-chunk"));
  if (!s) co_return s;
  const std::vector<DiskChunk> tables(table_chunks_.begin(),
                                      table_chunks_.end());
  co_return co_await RestoreSource(job_.device, *store_, tables, table_sectors_,
                                   /*record=*/false,
                                   job_.Mover("around-tables"));
}

// Parked: the source's tables, then nothing of it is relocated any more.
Task<Status> RollbackRun::Finish() {
  auto s = co_await RestoreSourceTable(job_, *store_, table_sectors_);
  if (!s) co_return s;
  co_return co_await ForgetRelocations();
}

}  // namespace

Task<Status> Rollback(const Job& job, const RollbackOptions& options) {
  auto located = co_await Locate(job);
  if (!located) co_return located.error();
  if (!located->superblock) {
    co_return Error{ErrorCode::kNotFound, "there is no migration on this disk"};
  }
  const Superblock superblock = *located->superblock;
  if (superblock.committed) {
    co_return Error{ErrorCode::kRefused,
                    "the migration was committed: the old system's space has "
                    "been given up"};
  }
  const bool continues = superblock.phase == Phase::kRollingBack ||
                         superblock.phase == Phase::kParked;
  if (options.if_unhealthy && !continues &&
      !IsGivenUp(superblock, *options.if_unhealthy)) {
    co_return Error{ErrorCode::kRefused,
                    "the new system has been well, or may still come up"};
  }
  RollbackRun run(job, std::move(*located));
  if (auto s = co_await run.Open(); !s) co_return s;
  if (!continues && options.confirm) {
    if (auto s = options.confirm(superblock); !s) co_return s;
  }
  co_return co_await run.Run();
}

}  // namespace bootstream
