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
    status = Error{ErrorCode::kRefused, where + " holds the anchor"};
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
