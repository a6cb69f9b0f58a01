#include <algorithm>
#include <string>
#include <utility>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/map/map_store_impl.h"

namespace bootstream {
namespace {

// What `change` may not touch.
void KeepPlaces(const Superblock& from, Superblock& to) {
  to.chunk_bytes = from.chunk_bytes;
  to.features = from.features;
  to.migration_id = from.migration_id;
  to.superblock_chunks = from.superblock_chunks;
  to.old_superblock_chunk = from.old_superblock_chunk;
  to.anchor_offset = from.anchor_offset;
  to.checkpoint_chunk = from.checkpoint_chunk;
  to.checkpoint_epoch = from.checkpoint_epoch;
  to.journal_chunk = from.journal_chunk;
  to.journal_epoch = from.journal_epoch;
  to.journal_sequence = from.journal_sequence;
  to.manifest_chunk = from.manifest_chunk;
  to.manifest_epoch = from.manifest_epoch;
  to.region_chunk_count = from.region_chunk_count;
}

}  // namespace

Task<Status> WriteSuperblockSlots(BlockDevice& device,
                                  const Superblock& superblock) {
  const auto encoded = EncodeSuperblock(superblock);
  if (!encoded) co_return encoded.error();
  AlignedBuffer block(kSuperblockBytes);
  std::copy(encoded->begin(), encoded->end(), block.data());
  const uint64_t slot = superblock.sequence % kSuperblockSlots;
  for (const DiskChunk chunk : superblock.superblock_chunks) {
    const Status written = co_await device.Write(
        chunk.value * superblock.chunk_bytes + slot * kSuperblockBytes,
        block.span());
    if (!written) co_return written;
    if (Status s = co_await device.Flush(); !s) co_return s;
  }
  co_return OkStatus();
}

Task<Status> MapStore::Impl::WriteSuperblock(Superblock next) {
  next.sequence = superblock.sequence + 1;
  next.next_epoch = next_epoch;
  Status status = co_await WriteSuperblockSlots(device, next);
  if (status) {
    superblock = std::move(next);
  } else if (status.error().code != ErrorCode::kInvalid) {
    status = Fail(status.error());
  }
  co_return status;
}

Task<Status> MapStore::Impl::UpdateSuperblock(
    std::function<void(Superblock&)> change) {
  if (Status s = co_await Commit(); !s) co_return s;
  const auto guard = co_await superblock_mutex.Lock();
  if (Status s = CheckWritable(); !s) co_return s;
  Superblock next = superblock;
  change(next);
  KeepPlaces(superblock, next);
  co_return co_await WriteSuperblock(std::move(next));
}

// The superblock names the anchor before there is one, so that its chunk is
// never given to anybody while an anchor may be in it.
Task<Status> MapStore::Impl::WriteAnchor(uint64_t offset) {
  if (Status s = co_await Commit(); !s) co_return s;
  const auto guard = co_await superblock_mutex.Lock();
  if (Status s = CheckWritable(); !s) co_return s;
  if (superblock.anchor_offset != offset) {
    const auto chunk = TakeAnchorChunk(offset);
    if (!chunk) co_return chunk.error();
    Superblock next = superblock;
    next.anchor_offset = offset;
    if (Status s = co_await WriteSuperblock(std::move(next)); !s) co_return s;
  }
  if (Status s = co_await PutAnchor(offset); !s) co_return Fail(s.error());
  co_return OkStatus();
}

Result<DiskChunk> MapStore::Impl::TakeAnchorChunk(uint64_t offset) {
  const auto error = [offset](const char* why) {
    return Error{ErrorCode::kInvalid,
                 "map: anchor at byte " + std::to_string(offset) + ": " + why};
  };
  if (superblock.anchor_offset != kNone) {
    return error("there is one elsewhere; clear it first");
  }
  const DiskChunk chunk{offset / chunk_bytes()};
  if (offset % kAnchorBytes != 0 ||
      chunk.value >= limits().whole_disk_chunks()) {
    return error("no place for it");
  }
  if (!allocated.contains(chunk) && !AllocateAt(chunk)) {
    return error("its chunk is in use");
  }
  Occupy(chunk, {ChunkUse::kMetadata, 0});
  return chunk;
}

// Both sectors say the same in the end, so that either may be lost.
Task<Status> MapStore::Impl::PutAnchor(uint64_t offset) {
  const auto before = co_await ReadAnchor(device, offset);
  if (!before && before.error().code == ErrorCode::kUnsupported) {
    co_return before.error();
  }
  Anchor anchor;
  if (before && before->migration_id == superblock.migration_id) {
    anchor.features.ignore = before->features.ignore;
    anchor.sequence = before->sequence;
  } else {
    // Somebody else's bytes, or an older migration's anchor.
    if (Status s = co_await ZeroAnchor(offset); !s) co_return s;
  }
  anchor.chunk_bytes = chunk_bytes();
  anchor.migration_id = superblock.migration_id;
  anchor.disk = superblock.disk;
  anchor.target_table_id = superblock.target_table_id;
  anchor.previous_table_id = superblock.previous_table_id;
  anchor.superblock_chunks = superblock.superblock_chunks;
  anchor.leaving = leaving;
  AlignedBuffer buffer(kSectorBytes);
  for (int i = 0; i < 2; ++i) {
    ++anchor.sequence;
    const auto sector = EncodeAnchor(anchor);
    std::copy(sector.begin(), sector.end(), buffer.data());
    const uint64_t at = offset + anchor.sequence % 2 * kAnchorSlotBytes;
    Status status = co_await device.Write(at, buffer.span());
    if (status) status = co_await device.Flush();
    if (!status) co_return status;
  }
  co_return OkStatus();
}

Task<Status> MapStore::Impl::ChangeTargetTable(TableId id) {
  // What was written under the id before is on the disk after this.
  if (Status s = co_await Commit(); !s) co_return s;
  const auto guard = co_await superblock_mutex.Lock();
  if (Status s = CheckWritable(); !s) co_return s;
  if (superblock.target_table_id == id) co_return OkStatus();
  Superblock next = superblock;
  next.previous_table_id = superblock.target_table_id;
  next.target_table_id = id;
  if (Status s = co_await WriteSuperblock(std::move(next)); !s) co_return s;
  if (superblock.anchor_offset == kNone) co_return OkStatus();
  Status status = co_await PutAnchor(superblock.anchor_offset);
  if (!status) co_return Fail(status.error());
  co_return status;
}

Task<Status> MapStore::Impl::ZeroAnchor(uint64_t offset) {
  const AlignedBuffer zeroes(kAnchorBytes);
  Status status = co_await device.Write(offset, zeroes.span());
  if (status) status = co_await device.Flush();
  co_return status;
}

Task<Status> MapStore::Impl::ClearAnchor() {
  if (Status s = co_await Commit(); !s) co_return s;
  const auto guard = co_await superblock_mutex.Lock();
  if (Status s = CheckWritable(); !s) co_return s;
  const uint64_t offset = superblock.anchor_offset;
  if (offset == kNone) co_return OkStatus();
  if (Status s = co_await ZeroAnchor(offset); !s) co_return Fail(s.error());
  Superblock next = superblock;
  next.anchor_offset = kNone;
  if (Status s = co_await WriteSuperblock(std::move(next)); !s) co_return s;
  region.Free(DiskChunk{offset / chunk_bytes()});
  co_return OkStatus();
}

}  // namespace bootstream
