#include <bit>
#include <cstring>

#include "blockmap/base/coding.h"
#include "blockmap/image/signing.h"
#include "blockmap/map/space_account.h"
#include "initramfs/driver/engine.h"

namespace bootstream {
namespace {

// Calls `visit(first block, block count)` for each run of set bits.
template <typename Visit>
void ForEachRun(uint64_t mask, Visit visit) {
  for (uint32_t block = 0; mask >> block != 0;) {
    block += static_cast<uint32_t>(std::countr_zero(mask >> block));
    const auto count = static_cast<uint32_t>(std::countr_one(mask >> block));
    visit(block, count);
    block += count;
    if (block >= 64) break;
  }
}

}  // namespace

Task<Status> StreamEngine::Hydrate(ImageChunk chunk, FetchClass fetch_class) {
  if (!IsMissing(chunk)) co_return OkStatus();
  std::shared_ptr<Flight> flight = StartFlight(chunk, fetch_class);
  co_await flight->done;
  co_return flight->status;
}

std::shared_ptr<StreamEngine::Flight> StreamEngine::StartFlight(
    ImageChunk chunk, FetchClass fetch_class) {
  const bool demand = fetch_class == FetchClass::kDemand;
  if (const auto found = flights_.find(chunk); found != flights_.end()) {
    if (demand && !found->second->demanded) {
      found->second->demanded = true;
      found->second->demanded_at = executor_.Now();
      source_.Promote(chunk, fetch_class);
    }
    return found->second;
  }
  auto flight = std::make_shared<Flight>();
  flight->demanded = demand;
  flight->demanded_at = executor_.Now();
  flights_.emplace(chunk, flight);
  Spawn(RunFlight(chunk, fetch_class, flight));
  return flight;
}

std::optional<Executor::Duration> StreamEngine::waiting_since() const {
  std::optional<Executor::Duration> oldest;
  for (const auto& [chunk, flight] : flights_) {
    if (!flight->demanded || flight->content.size() != 0) continue;
    if (!oldest || flight->demanded_at < *oldest) {
      oldest = flight->demanded_at;
    }
  }
  return oldest;
}

Task<void> StreamEngine::RunFlight(ImageChunk chunk, FetchClass fetch_class,
                                   std::shared_ptr<Flight> flight) {
  Result<AlignedBuffer> content = co_await source_.Fetch(chunk, fetch_class);
  if (!content) {
    flight->failed = true;
    flight->status = content.error();
    flight->arrived.Set();
  } else {
    flight->content = std::move(*content);
    ++statistics_.answered_fetches;
    const uint64_t size = flight->content.size();
    unstored_bytes_ += size;
    flight->arrived.Set();
    if (!options_.read_only) {
      Status stored = co_await Store(chunk, *flight);
      if (stored) co_await ClosePhase(chunk);
      flight->status = std::move(stored);
    }
    unstored_bytes_ -= size;
  }
  flights_.erase(chunk);
  flight->done.Set();
}

// Only blocks that are not valid are written: whatever the target has written
// meanwhile stays (invariant 3).
Task<Status> StreamEngine::Store(ImageChunk chunk, Flight& flight) {
  ChunkLocks::Guard guard = co_await locks_.Exclusive(chunk);
  ChunkState state = store_.map().Get(chunk);
  const uint64_t need = MissingBlocks(chunk, state);
  if (need == 0) co_return OkStatus();
  if (!state.location.on_disk()) {
    const auto place = co_await PlaceFor(chunk, flight.demanded);
    if (!place) co_return Error{ErrorCode::kNoSpace, "the region is full"};
    state.location = Location::At(*place);
  }
  uint64_t patched = 0;
  for (const Patch& patch : store_.map().PatchesOf(chunk)) {
    patched |= uint64_t{1} << (patch.offset / kBlockBytes);
  }
  AlignedBuffer merged;
  const auto content = Merged(chunk, need, flight, merged);

  std::vector<std::pair<uint32_t, uint32_t>> runs;
  ForEachRun(need, [&](uint32_t first, uint32_t count) {
    runs.emplace_back(first * kBlockBytes, count * kBlockBytes);
  });
  for (const auto& [begin, size] : runs) {
    const uint64_t to = DiskOffset(state.location.chunk()) + begin;
    const Status s = co_await device_.Write(to, content.subspan(begin, size));
    if (!s) {
      const bool fresh = !store_.map().Get(chunk).location.on_disk();
      if (fresh) store_.Release(state.location.chunk());
      if (fresh) Quarantine(state.location.chunk());
      if (options_.report) {
        options_.report("disk chunk " +
                        std::to_string(state.location.chunk().value) +
                        " does not take image chunk " +
                        std::to_string(chunk.value) + ": " + s.error().message);
      }
      co_return s;
    }
  }
  state.valid |= need;
  state.dirty |= need & patched;
  store_.SetChunk(chunk, state);
  CommitSoon();
  if (!flight.demanded) {
    ++statistics_.prefetched_chunks;
  } else if (state.location.chunk() != HomeOf(chunk)) {
    ++statistics_.demand_misses_stored_in_region;
  }
  co_return OkStatus();
}

// The chunk with its patches in `blocks`: the download itself if there is none,
// else a copy in `merged`.
std::span<const std::byte> StreamEngine::Merged(ImageChunk chunk,
                                                uint64_t blocks,
                                                const Flight& flight,
                                                AlignedBuffer& merged) const {
  const std::span<const std::byte> content = flight.content.span();
  if (store_.map().PatchesOf(chunk).empty()) return content;
  merged = AlignedBuffer::Unfilled(content.size());
  std::memcpy(merged.data(), content.data(), content.size());
  store_.map().Merge(chunk, blocks, merged.span());
  return merged.span();
}

// With `must`, what the spare chunks are for: a demand miss or a write.
Task<std::optional<DiskChunk>> StreamEngine::PlaceFor(ImageChunk chunk,
                                                      bool must) {
  const PlacementWish wish{PlacementWish::For::kImageChunk, chunk};
  std::optional<DiskChunk> place = store_.Allocate(wish, must && HasRoom());
  for (int attempt = 0; !place && must && attempt < 3; ++attempt) {
    if (!co_await EvictOne()) break;
    place = store_.Allocate(wish, HasRoom());
  }
  co_return place;
}

bool StreamEngine::HasRoom() const {
  return store_.region().plain_available_count(/*use_spare=*/true) >
         KeptForTheWayBack(store_.superblock());
}

bool StreamEngine::IsExpendable(ImageChunk chunk,
                                const ChunkState& state) const {
  const bool kept = manifest_->InBootSet(chunk) || manifest_->IsPinned(chunk);
  return !kept && state.location.on_disk() && state.dirty == 0 &&
         !manifest_->IsZero(chunk);
}

bool StreamEngine::MayEvict(ImageChunk chunk, const ChunkState& state) const {
  return IsExpendable(chunk, state) && !recovery_set_.Contains(chunk);
}

// A chunk that may make room, next in turn; its place is free when this
// returns true.
Task<bool> StreamEngine::EvictOne() {
  std::optional<ImageChunk> victim;
  std::optional<ChunkLocks::Guard> guard;
  for (int round = 0; round < 2; ++round) {
    const bool wrapped = round == 1;
    store_.map().ForEach([&](ImageChunk chunk, const ChunkState& state) {
      if (victim || (chunk < evict_cursor_) != wrapped) return;
      if (!MayEvict(chunk, state)) return;
      guard = locks_.TryExclusive(chunk);
      if (guard) victim = chunk;
    });
  }
  if (!victim) co_return false;
  evict_cursor_ = ImageChunk{victim->value + 1};
  const Status reopened = co_await ReopenPhase(*victim);
  if (!reopened) co_return false;
  store_.SetChunk(*victim, ChunkState{});
  ++statistics_.evicted_chunks;
  co_return (co_await store_.Commit()).has_value();
}

Task<Status> StreamEngine::AuditBootChunk(ImageChunk chunk) {
  const auto mark = in_background_.Begin();
  ChunkLocks::Guard guard = co_await locks_.Exclusive(chunk);
  ChunkState state = store_.map().Get(chunk);
  const uint64_t all = grid_.full_mask(chunk.value);
  const bool at_home = state.location == Location::At(HomeOf(chunk));
  if (!at_home || state.valid != all || state.dirty != 0) co_return OkStatus();
  const Result<bool> same = co_await IsAsInManifest(chunk, state);
  if (!same) co_return same.error();
  if (*same || options_.read_only) co_return OkStatus();
  state.dirty = all;
  store_.SetChunk(chunk, state);
  CommitSoon();
  co_return OkStatus();
}

}  // namespace bootstream
