#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "blockmap/base/coding.h"
#include "blockmap/image/signing.h"
#include "initramfs/driver/engine.h"

// What to do about a disk that does not give back what it was given: what the
// server has as well is fetched again, everything else is an I/O error with its
// address.

namespace bootstream {
namespace {

// So many bad places are kept out of use; a disk with more of them is dying.
constexpr size_t kBadPlacesMax = 64;

}  // namespace

Status StreamEngine::Fail(ImageChunk chunk, const ChunkState& state,
                          const char* what, Status status) {
  ++statistics_.io_errors;
  if (!options_.report) return status;
  std::string text = "image chunk " + std::to_string(chunk.value);
  if (state.location.on_disk()) {
    const DiskChunk place = state.location.chunk();
    text += " in disk chunk " + std::to_string(place.value) + " (byte " +
            std::to_string(DiskOffset(place)) + " of the disk)";
  }
  options_.report(text + " cannot be " + what + ": " + status.error().message);
  return status;
}

// Only the disk knows it: firmware or a boot loader may have written to what
// lies at home in the boot set and the ESP, and a zero chunk's zeroes that are
// on the disk were written there.
bool StreamEngine::IsTruth(ImageChunk chunk, const ChunkState& state) const {
  const bool kept = manifest_->InBootSet(chunk) || manifest_->IsPinned(chunk);
  return manifest_->IsZero(chunk) ||
         (kept && state.location == Location::At(HomeOf(chunk)));
}

// The clean blocks that are wanted cannot be read: they come from the server,
// and go to the disk again for the next reader.
Task<Status> StreamEngine::ReadHealed(Piece piece, uint64_t wanted,
                                      Status failure,
                                      std::span<std::byte> out) {
  if (!options_.read_only) {
    // A failure is told to whoever flushes; the reader is answered all the
    // same.
    (void)co_await DropUnreadable(piece.chunk, failure, /*bad_place=*/true);
  }
  const std::shared_ptr<Flight> flight =
      StartFlight(piece.chunk, FetchClass::kDemand);
  co_await flight->done;
  if (flight->failed) co_return flight->status;
  ChunkLocks::Guard guard = co_await locks_.Shared(piece.chunk);
  ChunkState state = store_.map().Get(piece.chunk);
  // From memory: the disk may not have kept it this time either.
  state.valid &= state.dirty;
  Status status = co_await ReadLocal(piece, state, flight.get(), out);
  if (!status && (state.dirty & wanted) != 0) {
    co_return Fail(piece.chunk, state, "read", std::move(status));
  }
  co_return status;
}

Task<Status> StreamEngine::DropUnreadable(ImageChunk chunk,
                                          const Status& failure,
                                          bool bad_place) {
  if (options_.report) {
    options_.report(
        "image chunk " + std::to_string(chunk.value) +
        " cannot be read and is fetched again: " + failure.error().message);
  }
  co_return co_await DropClean(chunk, bad_place);
}

// Forget the clean blocks of `chunk`, durably, so that they are fetched again.
// Without dirty blocks it leaves its place.
Task<Status> StreamEngine::DropClean(ImageChunk chunk, bool bad_place) {
  if (auto s = co_await ReopenPhase(chunk); !s) co_return s;
  ChunkLocks::Guard guard = co_await locks_.Exclusive(chunk);
  const ChunkState state = store_.map().Get(chunk);
  if (!state.location.on_disk() || IsTruth(chunk, state) ||
      state.valid == state.dirty) {
    co_return OkStatus();  // somebody was here before us
  }
  ChunkState rest;
  if (state.dirty != 0) {
    rest = ChunkState{state.location, state.dirty, state.dirty};
  }
  store_.SetChunk(chunk, rest);
  ++statistics_.healed_chunks;
  Status s = co_await store_.Commit();
  if (s && bad_place && !rest.location.on_disk()) {
    Quarantine(state.location.chunk());
  }
  co_return s;
}

// A place that is free now and is not to be used again.
void StreamEngine::Quarantine(DiskChunk place) {
  if (bad_places_.size() >= kBadPlacesMax || !store_.AllocateAt(place)) return;
  bad_places_.push_back(place);
}

bool StreamEngine::IsBadPlace(DiskChunk place) const {
  return std::ranges::find(bad_places_, place) != bad_places_.end();
}

// An image that is complete needs no network at the next boot: it must not say
// so while a chunk is missing.
Task<Status> StreamEngine::ReopenPhase(ImageChunk chunk) {
  const Superblock& now = store_.superblock();
  const bool complete =
      now.phase == CompletePhase(now) || now.phase == Phase::kSettled;
  if (complete || !reopened_.empty()) reopened_.insert(chunk);
  if (!complete) co_return OkStatus();
  co_return co_await store_.UpdateSuperblock(
      [](Superblock& block) { block.phase = Phase::kStreaming; });
}

Task<void> StreamEngine::ClosePhase(ImageChunk chunk) {
  if (reopened_.erase(chunk) == 0 || !reopened_.empty()) co_return;
  // A failure leaves "streaming", which is safe.
  (void)co_await store_.UpdateSuperblock([](Superblock& block) {
    if (block.phase == Phase::kStreaming) block.phase = CompletePhase(block);
  });
}

Task<Result<bool>> StreamEngine::IsAsInManifest(ImageChunk chunk,
                                                const ChunkState& state) {
  AlignedBuffer content(grid_.bytes_of(chunk.value));
  const uint64_t from = DiskOffset(state.location.chunk());
  if (auto s = co_await device_.Read(from, content.span()); !s) {
    co_return s.error();
  }
  const ChunkEntry* entry = manifest_->Find(chunk);
  if (entry == nullptr) co_return AllZero(content.span());
  co_return Sha256Of(content.span()) == entry->digest;
}

Task<Result<StreamEngine::CheckResult>> StreamEngine::CheckChunk(
    ImageChunk chunk) {
  const auto mark = in_background_.Begin();
  bool unreadable = false;
  {
    ChunkLocks::Guard guard = co_await locks_.Shared(chunk);
    const ChunkState state = store_.map().Get(chunk);
    if (!state.location.on_disk()) co_return CheckResult::kNothing;
    const bool clean =
        state.dirty == 0 && state.valid == grid_.full_mask(chunk.value);
    if (!clean) co_return CheckResult::kNotClean;
    const Result<bool> same = co_await IsAsInManifest(chunk, state);
    if (same && *same) co_return CheckResult::kGood;
    unreadable = !same;
    const Status failure =
        same ? Status(Error{ErrorCode::kCorrupt, "its digest is wrong"})
             : Status(same.error());
    if (IsTruth(chunk, state) && same) co_return CheckResult::kTouched;
    if (IsTruth(chunk, state) || options_.read_only) {
      (void)Fail(chunk, state, "trusted", failure);
      co_return CheckResult::kUnreadable;
    }
    if (options_.report) {
      options_.report("image chunk " + std::to_string(chunk.value) +
                      " in disk chunk " +
                      std::to_string(state.location.chunk().value) +
                      " is fetched again: " + failure.error().message);
    }
  }
  // Whoever writes to it in between makes it dirty, and then it is left alone.
  if (auto s = co_await DropClean(chunk, unreadable); !s) co_return s.error();
  if (auto s = co_await Hydrate(chunk, FetchClass::kReadAhead); !s) {
    co_return s.error();
  }
  co_return CheckResult::kMended;
}

}  // namespace bootstream
