#include <algorithm>

#include "blockmap/base/coding.h"
#include "initramfs/driver/engine.h"

// After commit every chunk comes home, and what is zero is zero on the disk:
// then the raw disk is the image.

namespace bootstream {

bool StreamEngine::IsZeroAtHome(ImageChunk chunk) const {
  const ChunkState state = store_.map().Get(chunk);
  return !state.location.on_disk() && MissingBlocks(chunk, state) == 0 &&
         store_.region().IsZeroed(HomeOf(chunk));
}

bool StreamEngine::IsSettled(ImageChunk chunk) const {
  const ChunkState state = store_.map().Get(chunk);
  const DiskChunk home = HomeOf(chunk);
  if (state.location.on_disk()) {
    return state.location == Location::At(home) &&
           state.valid == grid_.full_mask(chunk.value);
  }
  if (MissingBlocks(chunk, state) != 0) return false;
  return store_.region().IsZeroed(home) ||
         store_.region().OccupantOf(home).use == ChunkUse::kMetadata;
}

Task<Status> StreamEngine::SettleChunk(ImageChunk chunk) {
  const auto mark = in_background_.Begin();
  const Location before = store_.map().Get(chunk).location;
  if (before.on_disk() && before.chunk() != HomeOf(chunk)) {
    if (auto s = co_await MakeHome(chunk); !s) co_return s;
  }
  ChunkLocks::Guard guard = co_await locks_.Exclusive(chunk);
  if (IsSettled(chunk)) co_return OkStatus();
  const ChunkState state = store_.map().Get(chunk);
  if (state.location.on_disk()) co_return co_await FillHome(chunk, state);
  if (MissingBlocks(chunk, state) == 0) co_return co_await ZeroHome(chunk);
  co_return Error{
      ErrorCode::kUnavailable,
      "image chunk " + std::to_string(chunk.value) + " is not on the disk"};
}

// Blocks that are zero in the image and that nobody has written.
Task<Status> StreamEngine::FillHome(ImageChunk chunk, ChunkState state) {
  const bool at_home = state.location == Location::At(HomeOf(chunk));
  if (!at_home || !manifest_->IsZero(chunk)) {
    co_return Error{ErrorCode::kUnavailable,
                    "image chunk " + std::to_string(chunk.value) +
                        " is not all there, or on its way"};
  }
  const uint64_t missing = grid_.full_mask(chunk.value) & ~state.valid;
  const AlignedBuffer zeroes(kBlockBytes);
  for (uint32_t block = 0; block < grid_.blocks_per_chunk(); ++block) {
    if ((missing >> block & 1) == 0) continue;
    const uint64_t at =
        DiskOffset(HomeOf(chunk)) + uint64_t{block} * kBlockBytes;
    if (auto s = co_await device_.WriteZeroes(at, zeroes.span()); !s) {
      co_return s;
    }
  }
  state.valid |= missing;
  store_.SetChunk(chunk, state);
  CommitSoon();
  co_return OkStatus();
}

// Where the disk is zero already nothing is written.
Task<Status> StreamEngine::ZeroHome(ImageChunk chunk) {
  const DiskChunk home = HomeOf(chunk);
  if (!store_.AllocateAt(home)) {
    co_return Error{ErrorCode::kUnavailable,
                    "disk chunk " + std::to_string(home.value) +
                        " is in use by something else"};
  }
  AlignedBuffer content(grid_.bytes_of(chunk.value));
  Status s = co_await device_.Read(DiskOffset(home), content.span());
  if (!s || !AllZero(content.span())) {
    std::fill(content.span().begin(), content.span().end(), std::byte{0});
    s = co_await device_.WriteZeroes(DiskOffset(home), content.span());
  }
  store_.Release(home);
  if (s) store_.NoteZeroed(home);
  co_return s;
}

}  // namespace bootstream
