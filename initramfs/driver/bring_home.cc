#include "initramfs/driver/engine.h"

// What firmware and boot loader will read is at home, whole, and stays there
// (boot closure, design invariant 7).

namespace bootstream {

// A chunk at home is moved by nobody; what could take it away is eviction.
bool StreamEngine::IsHomeToStay(ImageChunk chunk, uint64_t blocks) const {
  const ChunkState state = store_.map().Get(chunk);
  return state.location == Location::At(HomeOf(chunk)) &&
         (blocks & ~state.valid) == 0 && !IsExpendable(chunk, state);
}

Task<Status> StreamEngine::BringHome(ImageChunk chunk) {
  const auto mark = in_background_.Begin();
  for (int attempt = 0; attempt < 100; ++attempt) {
    if (auto s = co_await Hydrate(chunk, FetchClass::kDemand); !s) co_return s;
    if (auto s = co_await MakeHome(chunk); !s) co_return s;
    ChunkLocks::Guard guard = co_await locks_.Exclusive(chunk);
    ChunkState state = store_.map().Get(chunk);
    const bool at_home = state.location == Location::At(HomeOf(chunk));
    // It may have been discarded in between.
    if (!at_home || MissingBlocks(chunk, state) != 0) continue;
    if (state.valid != grid_.full_mask(chunk.value)) {
      if (auto s = co_await FillHome(chunk, state); !s) co_return s;
      state = store_.map().Get(chunk);
    }
    // What the boot loader reads is the truth from now on, and is kept.
    if (IsExpendable(chunk, state)) {
      state.dirty = grid_.full_mask(chunk.value);
      store_.SetChunk(chunk, state);
      CommitSoon();
    }
    co_return OkStatus();
  }
  co_return Error{ErrorCode::kUnavailable,
                  "image chunk " + std::to_string(chunk.value) +
                      " changes all the time and does not come home"};
}

}  // namespace bootstream
