#include <algorithm>
#include <string>
#include <utility>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/map/map_store_impl.h"

namespace bootstream {
namespace {

bool Holds(const std::vector<DiskChunk>& chunks, DiskChunk chunk) {
  return std::find(chunks.begin(), chunks.end(), chunk) != chunks.end();
}

}  // namespace

Task<Status> MapStore::Impl::MoveMetadata(DiskChunk chunk) {
  if (Status s = CheckWritable(); !s) co_return s;
  const std::string where = "map: disk chunk " + std::to_string(chunk.value);
  if (region.OccupantOf(chunk).use != ChunkUse::kMetadata ||
      !claimed.insert(chunk).second) {
    co_return Error{ErrorCode::kInvalid, where + " holds no metadata"};
  }
  if (quarantine.erase(chunk) != 0) {
    FreeMetadata({chunk});
    co_return OkStatus();
  }
  Status status;
  auto guard = co_await superblock_mutex.Lock();
  const auto& pair = superblock.superblock_chunks;
  if (superblock.anchor_offset / chunk_bytes() == chunk.value) {
    status = co_await MoveAnchor();
  } else if (std::find(pair.begin(), pair.end(), chunk) != pair.end()) {
    status = co_await MoveSuperblock(chunk);
  } else if (Holds(manifest_chunks, chunk)) {
    status = co_await MoveManifest();
  } else {
    // Of a checkpoint or a journal, and perhaps not even current yet: after a
    // whole round both are elsewhere.
    guard.Release();
    status = co_await Checkpoint();
  }
  claimed.erase(chunk);
  co_return status;
}

Task<Status> MapStore::Impl::MoveManifest() {
  if (Status s = CheckWritable(); !s) co_return s;
  if (Status s = co_await GoBackToCommitted(); !s) co_return s;
  const auto manifest = co_await ReadManifest(device, superblock);
  if (!manifest) co_return manifest.error();
  const auto taken = co_await TakeUnreserved(manifest_chunks.size());
  if (!taken) co_return taken.error();
  const std::vector<DiskChunk>& chunks = *taken;
  const ChainName name = NewChain(ChainKind::kManifest);
  Status status =
      co_await WriteChain(device, chunk_bytes(), name, chunks, *manifest);
  if (status) status = co_await device.Flush();
  if (!status) co_return Fail(status.error());
  Superblock next = superblock;
  next.manifest_chunk = chunks.front();
  next.manifest_epoch = name.epoch;
  status = co_await WriteSuperblock(std::move(next));
  if (!status) co_return status;
  FreeMetadata(std::exchange(manifest_chunks, chunks));
  co_return status;
}

// A power cut anywhere in here leaves the anchor leading to a chunk that has
// the newest superblock, or to one that differs from it in its places only:
// nothing else is written meanwhile.
Task<Status> MapStore::Impl::MoveSuperblock(DiskChunk from) {
  if (Status s = CheckWritable(); !s) co_return s;
  if (Status s = co_await GoBackToCommitted(); !s) co_return s;
  const auto taken = co_await TakeUnreserved(1);
  if (!taken) co_return taken.error();
  Superblock next = superblock;
  // First the one that stays: what the other has, nobody may find before.
  SuperblockChunks& pair = next.superblock_chunks;
  if (pair[0] == from) std::swap(pair[0], pair[1]);
  pair[1] = taken->front();
  next.old_superblock_chunk = from;
  if (Status s = co_await Flush(); !s) co_return s;
  Status status = co_await WriteSuperblock(std::move(next));
  if (!status) co_return status;
  if (superblock.anchor_offset != kNone) {
    status = co_await PutAnchor(superblock.anchor_offset);
    if (!status) co_return Fail(status.error());
  }
  co_return co_await EraseOldSuperblock();
}

// To the other candidate, if that is free.  For a moment there are two anchors
// that say the same.
Task<Status> MapStore::Impl::MoveAnchor() {
  if (Status s = CheckWritable(); !s) co_return s;
  const uint64_t from = superblock.anchor_offset;
  const auto candidates = AnchorCandidates(superblock.disk.size_bytes);
  const uint64_t to = candidates[0] == from ? candidates[1] : candidates[0];
  const DiskChunk place{to / chunk_bytes()};
  if (!superblock.committed || to == kNone ||
      place.value == from / chunk_bytes() || !region.AllocateAt(place)) {
    co_return Error{ErrorCode::kRefused,
                    "map: the anchor's other place is in use"};
  }
  region.SetOccupant(place, {ChunkUse::kMetadata, 0});
  Status status = co_await GoBackToCommitted();
  if (status) status = co_await TryPlace(place);
  if (!status) {
    region.Free(place);
    co_return status;
  }
  status = co_await PutAnchor(to);
  if (!status) co_return Fail(status.error());
  Superblock next = superblock;
  next.anchor_offset = to;
  status = co_await WriteSuperblock(std::move(next));
  if (status) status = co_await ZeroAnchor(from);
  if (!status) co_return Fail(status.error());
  FreeMetadata({DiskChunk{from / chunk_bytes()}});
  co_return status;
}

// A power cut while the anchor moved may have left one of ours at the other
// candidate, where somebody might find it when the superblocks have moved on.
Task<Status> MapStore::Impl::EraseStaleAnchor() {
  if (!superblock.committed) co_return OkStatus();
  for (const uint64_t offset : AnchorCandidates(superblock.disk.size_bytes)) {
    if (offset == kNone || offset == superblock.anchor_offset) continue;
    const DiskChunk chunk{offset / chunk_bytes()};
    if (region.OccupantOf(chunk).use != ChunkUse::kFree) continue;
    const auto found = co_await ReadAnchor(device, offset);
    if (!found || found->migration_id != superblock.migration_id) continue;
    if (Status s = co_await ZeroAnchor(offset); !s) co_return s;
  }
  co_return OkStatus();
}

Task<Status> MapStore::Impl::EraseOldSuperblock() {
  const DiskChunk old = superblock.old_superblock_chunk;
  const AlignedBuffer zeroes(kSuperblockSlotsBytes);
  Status status =
      co_await device.Write(old.value * chunk_bytes(), zeroes.span());
  if (status) status = co_await device.Flush();
  if (!status) co_return Fail(status.error());
  Superblock next = superblock;
  next.old_superblock_chunk = DiskChunk{kNone};
  status = co_await WriteSuperblock(std::move(next));
  if (status) FreeMetadata({old});
  co_return status;
}

}  // namespace bootstream
