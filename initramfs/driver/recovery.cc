#include "blockmap/map/space_account.h"
#include "initramfs/driver/engine.h"

// The recovery set: chunks that were read while somebody read what the network
// needs to come back are not given up for room.

namespace bootstream {
namespace {

// Of the room that is free or can be made, the set takes one part in so many:
// the rest is for misses and writes.
constexpr uint64_t kShareOfRoom = 2;

}  // namespace

// Where nothing is missing and everything has room, nothing is ever evicted.
bool StreamEngine::NeedsRecoverySet() const {
  if (options_.read_only) return false;
  const Superblock& superblock = store_.superblock();
  if (superblock.phase < Phase::kComplete) return true;
  uint64_t placed = 0;
  store_.map().ForEach([&](ImageChunk, const ChunkState& state) {
    placed += state.location.on_disk();
  });
  return RoomForImage(superblock, store_.region()) <
         grid_.chunk_count() - placed;
}

// The kernel may have in its memory what was read before this, by whoever
// looked for the file system and mounted it, and not read it again now.
void StreamEngine::OpenRecoverySet() {
  uint64_t room = RoomForImage(store_.superblock(), store_.region());
  store_.map().ForEach([&](ImageChunk chunk, const ChunkState& state) {
    room += IsExpendable(chunk, state);
  });
  recovery_set_.Open(room / kShareOfRoom);
  for (const PrefetchEntry& run : first_reads_.runs()) {
    if (run.count != 0) KeepRead(run.first, run.first + run.count - 1);
  }
}

// What would not be expendable, had it come, stays without our help.
void StreamEngine::KeepRead(uint64_t first, uint64_t last) {
  for (uint64_t number = first; number <= last; ++number) {
    const ImageChunk chunk{number};
    ChunkState state = store_.map().Get(chunk);
    if (state.location.is_absent()) {
      state.location = Location::At(HomeOf(chunk));
    }
    if (IsExpendable(chunk, state)) recovery_set_.Add(chunk);
  }
}

}  // namespace bootstream
