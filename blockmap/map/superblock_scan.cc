#include <optional>
#include <string>
#include <utility>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/map/map_store.h"
#include "blockmap/map/sealed.h"

namespace bootstream {
namespace {

// Collects what is found in slots and remembers why there was nothing.
class Newest {
 public:
  void Add(Result<Superblock> found) {
    if (!found) {
      if (!trouble_ || trouble_->code == ErrorCode::kNotFound) {
        trouble_ = found.error();
      }
      is_newer_there_ |= found.error().code == ErrorCode::kUnsupported;
    } else if (!newest_ || found->sequence > newest_->sequence) {
      newest_ = std::move(*found);
    }
  }
  bool found() const { return newest_.has_value(); }
  const Superblock& superblock() const { return *newest_; }

  // A superblock that we cannot read may be newer than those that we can.
  Result<Superblock> Take() && {
    if (is_newer_there_) {
      return Error{ErrorCode::kUnsupported,
                   "superblock: written by a newer version; use that version "
                   "or a later one"};
    }
    if (newest_) return std::move(*newest_);
    return *trouble_;
  }

 private:
  std::optional<Superblock> newest_;
  std::optional<Error> trouble_;
  bool is_newer_there_ = false;
};

// Of one migration, or of any.
using Whose = std::optional<Uuid>;

// A superblock counts only in a chunk that it names.
Result<Superblock> ReadSlot(std::span<const std::byte> slot,
                            uint32_t chunk_bytes, DiskChunk chunk,
                            const Whose& whose) {
  if (whose && !IsSuperblockOf(slot, *whose)) {
    return Error{ErrorCode::kNotFound, "no superblock of this migration here"};
  }
  auto found = DecodeSuperblock(slot);
  if (found && (found->chunk_bytes != chunk_bytes ||
                (found->superblock_chunks[0] != chunk &&
                 found->superblock_chunks[1] != chunk))) {
    return Error{ErrorCode::kNotFound, "no superblock here: a stray copy"};
  }
  return found;
}

Task<void> ReadSlots(BlockDevice& device, uint32_t chunk_bytes, DiskChunk chunk,
                     Whose whose, Newest& newest) {
  if (chunk.value >= device.size_bytes() / chunk_bytes) {
    newest.Add(Error{ErrorCode::kNotFound, "superblock: disk chunk " +
                                               std::to_string(chunk.value) +
                                               " is beyond the disk"});
    co_return;
  }
  AlignedBuffer slots(kSuperblockSlotsBytes);
  const Status read =
      co_await device.Read(chunk.value * chunk_bytes, slots.span());
  if (!read) {
    newest.Add(read.error());
    co_return;
  }
  for (uint64_t at = 0; at < kSuperblockSlotsBytes; at += kSuperblockBytes) {
    newest.Add(ReadSlot(slots.span().subspan(at, kSuperblockBytes), chunk_bytes,
                        chunk, whose));
  }
}

Task<Result<Superblock>> ReadPair(BlockDevice& device, uint32_t chunk_bytes,
                                  SuperblockChunks chunks, Whose whose) {
  Newest newest;
  for (const DiskChunk chunk : chunks) {
    co_await ReadSlots(device, chunk_bytes, chunk, whose, newest);
  }
  co_return std::move(newest).Take();
}

}  // namespace

Task<Result<Superblock>> MapStore::ReadSuperblock(BlockDevice& device,
                                                  uint32_t chunk_bytes,
                                                  SuperblockChunks chunks) {
  const Whose anybody;
  co_return co_await ReadPair(device, chunk_bytes, chunks, anybody);
}

Task<Result<Superblock>> MapStore::ScanForSuperblock(
    BlockDevice& device, uint32_t chunk_bytes, Uuid migration_id,
    std::span<const DiskChunk> chunks) {
  Newest all;
  for (const DiskChunk chunk : chunks) {
    Newest here;
    co_await ReadSlots(device, chunk_bytes, chunk, migration_id, here);
    if (here.found()) {
      const SuperblockChunks places = here.superblock().superblock_chunks;
      co_return co_await ReadPair(device, chunk_bytes, places, migration_id);
    }
    all.Add(std::move(here).Take());
  }
  if (chunks.empty()) {
    co_return Error{ErrorCode::kNotFound, "no superblock here: no region"};
  }
  co_return std::move(all).Take();
}

}  // namespace bootstream
