#include "blockmap/map/map_store_impl.h"

namespace bootstream {

// The commit mutex is held until the disk says so: the journal goes elsewhere
// (WriteElsewhere) before or after, not meanwhile.
Task<Status> MapStore::Impl::GiveUpSource() {
  if (Status s = CheckWritable(); !s) co_return s;
  const auto guard = co_await commit_mutex.Lock();
  if (superblock.committed) {
    co_return Error{ErrorCode::kInvalid, "map: the source is given up already"};
  }
  for (;;) {
    auto taken = co_await CommitLocked(Fresh::kWholeDisk);
    if (!taken) co_return taken.error();
    if (!taken->has_value()) continue;  // a refused journal was replaced
    const Status status = co_await WriteCheckpoint(std::move(**taken));
    if (status) ForgetSource();
    co_return status;
  }
}

void MapStore::Impl::NoteGivenUp(Superblock& next) const {
  next.committed = true;
  if (next.phase == Phase::kComplete) next.phase = Phase::kCommitted;
  next.region_chunk_count = limits().disk.chunk_count();
  next.source_fs_offset = kNone;
}

void MapStore::Impl::ForgetSource() {
  for (const auto& [source, now] : map.relocations()) region.Free(now);
  map.ForgetRelocations();
  region.TakeWholeDisk(limits().disk.chunk_count());
  budget =
      BudgetFor(image.grid, region.base().size(), superblock.journal_chunks);
  UpdateReserve();
}

}  // namespace bootstream
