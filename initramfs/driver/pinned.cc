#include "blockmap/disk/mover.h"
#include "initramfs/driver/engine.h"

// What is written to a pinned chunk goes home, because firmware and boot loader
// read the raw disk; when everything settles, each chunk does.  Whoever lies
// there is moved first.

namespace bootstream {

Task<Status> StreamEngine::MakeHome(ImageChunk chunk) {
  const DiskChunk home = HomeOf(chunk);
  for (int attempt = 0; attempt < 1000; ++attempt) {
    ChunkLocks::Guard guard = co_await locks_.Exclusive(chunk);
    ChunkState state = store_.map().Get(chunk);
    if (state.location == Location::At(home)) co_return OkStatus();
    if (IsBadPlace(home)) {
      co_return Error{
          ErrorCode::kIo,
          "disk chunk " + std::to_string(home.value) + " takes no write"};
    }
    bool ours = store_.AllocateAt(home);
    if (!ours && store_.region().OccupantOf(home).use == ChunkUse::kForeign) {
      const Result<bool> taken = co_await TakeFromSource(home);
      if (!taken) {
        const bool has_room = co_await EvictFor(taken.error());
        if (!has_room) co_return taken.error();
      }
      if (!taken || !*taken) continue;
      ours = true;
    }
    if (!ours) {
      // Another chunk's lock is never awaited under this one.
      guard.Release();
      const Status s = co_await ClearHome(chunk);
      if (s) continue;
      const bool has_room = co_await EvictFor(s);
      if (!has_room) co_return s;
      continue;
    }
    if (state.location.on_disk()) {
      AlignedBuffer content(grid_.bytes_of(chunk.value));
      Status s = co_await ReadBlocks(state.location.chunk(), state.valid,
                                     content.span());
      if (!s && HasClean(chunk, state)) {
        store_.Release(home);
        guard.Release();
        s = co_await DropUnreadable(chunk, s, /*bad_place=*/true);
        if (!s) co_return s;
        continue;
      }
      if (!s) {
        store_.Release(home);
        co_return s;
      }
      s = co_await device_.Write(DiskOffset(home), content.span());
      if (!s) co_return GiveUpHome(chunk, std::move(s));
    } else if (MissingBlocks(chunk, state) == 0) {  // zero
      if (auto s = co_await FillZeroes(home, chunk); !s) {
        co_return GiveUpHome(chunk, std::move(s));
      }
      state.valid = state.dirty = grid_.full_mask(chunk.value);
    }
    state.location = Location::At(home);
    store_.SetChunk(chunk, state);
    CommitSoon();
    co_return OkStatus();
  }
  co_return Error{ErrorCode::kNoSpace, "the home of image chunk " +
                                           std::to_string(chunk.value) +
                                           " does not become free"};
}

// A home that has refused a write.  What must be there tries it again, all else
// goes elsewhere from now on.
Status StreamEngine::GiveUpHome(ImageChunk chunk, Status failure) {
  store_.Release(HomeOf(chunk));
  if (!manifest_->IsPinned(chunk)) Quarantine(HomeOf(chunk));
  return failure;
}

// True: `home` is allocated for the caller.  False: it is the source's no more.
Task<Result<bool>> StreamEngine::TakeFromSource(DiskChunk home) {
  if (!HasRoom()) co_return Error{ErrorCode::kNoSpace, "the region is full"};
  const auto guard = co_await source_mutex_.LockShared();
  if (store_.superblock().committed) co_return false;
  const std::span<const DiskChunk> source(&home, 1);
  if (auto s = co_await Relocate(device_, store_, source); !s) {
    co_return s.error();
  }
  co_return true;
}

// Whether the server has some of what is on the disk.
bool StreamEngine::HasClean(ImageChunk chunk, const ChunkState& state) const {
  return state.valid != state.dirty && !IsTruth(chunk, state);
}

// Whether `failure` was want of room and a clean chunk has made some: demand
// misses may have used up what was spare.
Task<bool> StreamEngine::EvictFor(const Status& failure) {
  if (failure.error().code != ErrorCode::kNoSpace) co_return false;
  co_return co_await EvictOne();
}

// Move away whoever of ours lies in the home of `chunk`.
Task<Status> StreamEngine::ClearHome(ImageChunk chunk) {
  const DiskChunk home = HomeOf(chunk);
  const Occupant occupant = store_.region().OccupantOf(home);
  switch (occupant.use) {
    case ChunkUse::kImage:
      co_return co_await MoveImageChunk(ImageChunk{occupant.number});
    case ChunkUse::kSource: {
      const auto source_guard = co_await source_mutex_.LockShared();
      if (store_.region().OccupantOf(home) != occupant) co_return OkStatus();
      const DiskChunk source{occupant.number};
      const std::span<const DiskChunk> one(&source, 1);
      co_return co_await Relocate(device_, store_, one);
    }
    case ChunkUse::kMetadata: {
      Status s = co_await store_.MoveMetadata(home);
      if (s) store_.Release(home);  // MakeHome takes it in its next turn
      co_return s;
    }
    default:
      // Reserved: its owner, or the commit that frees it, is under way.
      if (auto s = co_await store_.Commit(); !s) co_return s;
      co_await executor_.Sleep(std::chrono::milliseconds(1));
      co_return OkStatus();
  }
}

Task<Status> StreamEngine::MoveImageChunk(ImageChunk chunk) {
  ChunkLocks::Guard guard = co_await locks_.Exclusive(chunk);
  ChunkState state = store_.map().Get(chunk);
  if (!state.location.on_disk()) co_return OkStatus();
  const auto place = co_await PlaceFor(chunk, true);
  if (!place) co_return Error{ErrorCode::kNoSpace, "the region is full"};
  AlignedBuffer content(grid_.bytes_of(chunk.value));
  Status s =
      co_await ReadBlocks(state.location.chunk(), state.valid, content.span());
  if (!s) {
    store_.Release(*place);
    if (!HasClean(chunk, state)) co_return s;
    // What is left of it moves in the next turn.
    guard.Release();
    co_return co_await DropUnreadable(chunk, s, /*bad_place=*/false);
  }
  s = co_await device_.Write(DiskOffset(*place), content.span());
  if (!s) {
    store_.Release(*place);
    Quarantine(*place);
    co_return s;
  }
  state.location = Location::At(*place);
  store_.SetChunk(chunk, state);
  co_return co_await store_.Commit();
}

}  // namespace bootstream
