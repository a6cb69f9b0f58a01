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

Error NoRoom() {
  return Error{ErrorCode::kNoSpace, "map: no room to move metadata to"};
}

}  // namespace

Task<Status> MapStore::Impl::MoveMetadata(DiskChunk chunk) {
  if (Status s = CheckWritable(); !s) co_return s;
  const std::string where = "map: disk chunk " + std::to_string(chunk.value);
  if (region.OccupantOf(chunk).use != ChunkUse::kMetadata ||
      !claimed.insert(chunk).second) {
    co_return Error{ErrorCode::kInvalid, where + " holds no metadata"};
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

std::vector<DiskChunk> MapStore::Impl::TakeUnreserved(uint64_t count) {
  const PlacementWish wish{PlacementWish::For::kSource, ImageChunk{}};
  std::vector<DiskChunk> chunks;
  while (chunks.size() < count) {
    const auto chunk = region.Allocate(wish, /*use_spare=*/true);
    if (!chunk) {
      for (const DiskChunk taken : chunks) region.Free(taken);
      return {};
    }
    chunks.push_back(*chunk);
  }
  for (const DiskChunk chunk : chunks) {
    region.SetOccupant(chunk, {ChunkUse::kMetadata, 0});
  }
  return chunks;
}

Task<Status> MapStore::Impl::MoveManifest() {
  if (Status s = CheckWritable(); !s) co_return s;
  const auto manifest = co_await ReadManifest(device, superblock);
  if (!manifest) co_return manifest.error();
  const auto chunks = TakeUnreserved(manifest_chunks.size());
  if (chunks.empty()) co_return NoRoom();
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
  const auto chunks = TakeUnreserved(1);
  if (chunks.empty()) co_return NoRoom();
  Superblock next = superblock;
  std::replace(next.superblock_chunks.begin(), next.superblock_chunks.end(),
               from, chunks.front());
  next.old_superblock_chunk = from;
  const AlignedBuffer zeroes(kSuperblockSlotsBytes);
  Status status = co_await device.Write(chunks.front().value * chunk_bytes(),
                                        zeroes.span());
  if (status) status = co_await device.Flush();
  if (!status) co_return Fail(status.error());
  status = co_await WriteSuperblock(std::move(next));
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
