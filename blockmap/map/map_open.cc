#include <algorithm>
#include <string>
#include <utility>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/map/map_load.h"
#include "blockmap/map/map_store_impl.h"

namespace bootstream {
namespace {

Error Corrupt(std::string why) {
  return Error{ErrorCode::kCorrupt, "map: " + std::move(why)};
}

Task<Status> LoadManifestPlaces(BlockDevice& device, const Superblock& sb,
                                std::vector<DiskChunk>& places) {
  const ChainName name{ChainKind::kManifest, sb.migration_id,
                       sb.manifest_epoch};
  auto chain = co_await ReadChain(device, LimitsOf(sb).disk, name,
                                  sb.manifest_chunk, /*with_payload=*/false);
  if (!chain) co_return chain.error();
  places = std::move(chain->chunks);
  co_return OkStatus();
}

Status CheckFacts(const BlockDevice& device, const Superblock& sb,
                  const ImageFacts& image) {
  if (sb.disk.size_bytes == 0 || sb.disk.size_bytes > device.size_bytes()) {
    return Corrupt(
        "the superblock is of a disk of " + std::to_string(sb.disk.size_bytes) +
        " bytes, this one has " + std::to_string(device.size_bytes()));
  }
  if (image.grid.chunk_bytes != sb.chunk_bytes ||
      image.grid.size_bytes != sb.image_bytes) {
    return Error{ErrorCode::kInvalid,
                 "map: the image is not the one that the superblock names"};
  }
  return OkStatus();
}

}  // namespace

Task<Result<std::vector<std::byte>>> MapStore::ReadManifest(
    BlockDevice& device, const Superblock& superblock) {
  const ChainName name{ChainKind::kManifest, superblock.migration_id,
                       superblock.manifest_epoch};
  auto chain =
      co_await ReadChain(device, LimitsOf(superblock).disk, name,
                         superblock.manifest_chunk, /*with_payload=*/true);
  if (!chain) co_return chain.error();
  if (chain->payload.size() != superblock.manifest_bytes) {
    co_return Corrupt("the manifest has " +
                      std::to_string(chain->payload.size()) +
                      " bytes, the superblock says " +
                      std::to_string(superblock.manifest_bytes));
  }
  co_return std::move(chain->payload);
}

Task<Result<std::unique_ptr<MapStore>>> MapStore::Open(
    BlockDevice& device, const Superblock& superblock, ImageFacts image,
    bool read_only, std::unique_ptr<KeptChanges> kept) {
  const Superblock sb = superblock;
  if (Status s = CheckFacts(device, sb, image); !s) co_return s.error();
  // What a killed process wrote and did not flush is read below and counts as
  // durable from then on.
  Status status;
  if (!read_only) status = co_await device.Flush();
  LoadedMap loaded;
  std::vector<DiskChunk> manifest_chunks;
  if (status) status = co_await LoadMap(device, sb, loaded);
  if (status) status = co_await LoadManifestPlaces(device, sb, manifest_chunks);
  if (!status) co_return status.error();

  auto impl = std::make_unique<Impl>(
      device, sb, std::move(image), std::move(loaded.contents.map),
      std::move(loaded.contents.region), read_only);
  impl->checkpoint_chunks = std::move(loaded.checkpoint_chunks);
  impl->manifest_chunks = std::move(manifest_chunks);
  impl->journals = std::move(loaded.journals);
  impl->next_epoch = loaded.next_epoch;
  impl->writer =
      JournalWriter(sb.chunk_bytes, impl->journals.back(), loaded.end);
  impl->durable_sequence = loaded.end.sequence;
  if (Status s = impl->ClaimAll(); !s) co_return s.error();
  impl->UpdateReserve();
  std::vector<Record> records;
  if (kept) {
    auto recovered = kept->Recover(loaded.end.sequence);
    if (!recovered) co_return recovered.error();
    records = std::move(*recovered);
    impl->kept = std::move(kept);
  }
  impl->HoldPlaces(records);
  if (!read_only) status = co_await impl->EraseTorn(loaded.end);
  if (status && !read_only) status = co_await impl->FinishOpen();
  if (status && !records.empty()) {
    status = co_await impl->RepeatChanges(std::move(records));
  }
  if (!status) co_return status.error();
  co_return Impl::Wrap(std::move(impl));
}

Status MapStore::Impl::ClaimAll() {
  if (Status s = ClaimRelocations(); !s) return s;
  if (Status s = ClaimImage(); !s) return s;
  if (Status s = ClaimMetadata(); !s) return s;
  if (superblock.phase < Phase::kArmed) HoldJoined();
  return OkStatus();
}

void MapStore::Impl::HoldJoined() {
  for (const auto& [source, now] : map.relocations()) {
    HoldPlace(source);
  }
}

Status MapStore::Impl::ClaimRelocations() {
  for (const auto& [source, now] : map.relocations()) {
    if (region.IsOurs(source)) {
      return Corrupt("relocated chunk " + std::to_string(source.value) +
                     " was never the source's");
    }
    region.Join(source);
    region.Free(source);
  }
  for (const auto& [source, now] : map.relocations()) {
    Status s = Claim(now, {ChunkUse::kSource, source.value}, "source chunk");
    if (!s) return s;
  }
  return OkStatus();
}

Status MapStore::Impl::ClaimImage() {
  Status status;
  map.ForEach([&](ImageChunk chunk, const ChunkState& state) {
    if (!status || !state.location.on_disk()) return;
    status = Claim(state.location.chunk(), {ChunkUse::kImage, chunk.value},
                   "image chunk");
  });
  return status;
}

Status MapStore::Impl::ClaimMetadata() {
  if (superblock.anchor_offset != kNone &&
      superblock.anchor_offset % kAnchorBytes != 0) {
    return Corrupt("the anchor is between blocks");
  }
  for (const DiskChunk chunk : LiveMetadata()) {
    Status s = Claim(chunk, {ChunkUse::kMetadata, 0}, "metadata");
    if (!s) return s;
  }
  return OkStatus();
}

Status MapStore::Impl::Claim(DiskChunk chunk, Occupant occupant,
                             std::string_view user) {
  const Occupant before = region.OccupantOf(chunk);
  if (before.use == ChunkUse::kFree) {
    region.SetOccupant(chunk, occupant);
    return OkStatus();
  }
  const std::string who =
      std::string(user) + " " + std::to_string(occupant.number);
  const std::string where = "disk chunk " + std::to_string(chunk.value);
  if (before.use == ChunkUse::kForeign) {
    return Corrupt(who + " is in " + where + ", which is not ours");
  }
  return Corrupt(who + " is in " + where + ", which has another user");
}

// One of the anchor's sectors may have been lost: make it two again.  What the
// disk does not take now is no reason not to go on with what it has.
Task<Status> MapStore::Impl::MendAnchor() {
  const uint64_t offset = superblock.anchor_offset;
  AlignedBuffer buffer(kAnchorBytes);
  const Status read = co_await device.Read(offset, buffer.span());
  if (read && IsWholeAnchor(buffer.span(), superblock.migration_id)) {
    co_return OkStatus();
  }
  // Written before the stub's phase was over, or found by the stub: only an
  // anchor that is there is mended.
  const auto found = co_await ReadAnchor(device, offset);
  if (!found || found->migration_id != superblock.migration_id) {
    co_return OkStatus();
  }
  (void)co_await PutAnchor(offset);
  co_return OkStatus();
}

Task<Status> MapStore::Impl::EraseTorn(JournalPosition end) {
  if (Status s = co_await MendSuperblocks(); !s) co_return s;
  const JournalPlace last = journals.back();
  const auto erased = co_await EraseTornTail(device, chunk_bytes(), last, end);
  if (erased && *erased) co_return co_await Flush();
  if (erased) co_return OkStatus();
  if (!MayBeElsewhere(erased.error())) co_return erased.error();
  // It cannot be written on.
  const Status elsewhere = co_await WriteElsewhere(nullptr);
  co_return elsewhere ? elsewhere : Status(erased.error());
}

// A damaged copy of what is current is made anew; any other slot that is
// damaged may have been torn.
Task<Status> MapStore::Impl::MendSuperblocks() {
  const auto encoded = EncodeSuperblock(superblock);
  if (!encoded) co_return encoded.error();
  AlignedBuffer slots(kSuperblockSlotsBytes);
  AlignedBuffer current(kSuperblockBytes);
  std::copy(encoded->begin(), encoded->end(), current.data());
  const AlignedBuffer zeroes(kSectorBytes);
  bool mended = false;
  for (const DiskChunk chunk : superblock.superblock_chunks) {
    const uint64_t offset = chunk.value * chunk_bytes();
    const Status read = co_await device.Read(offset, slots.span());
    if (!read) continue;  // the other chunk has led here
    for (uint64_t slot = 0; slot < kSuperblockSlots; ++slot) {
      const uint64_t at = slot * kSuperblockBytes;
      const auto found =
          DecodeSuperblock(slots.span().subspan(at, kSuperblockBytes));
      if (found || found.error().code != ErrorCode::kCorrupt) continue;
      const bool is_current = slot == superblock.sequence % kSuperblockSlots;
      const Status written = co_await device.Write(
          offset + at, is_current ? current.span() : zeroes.span());
      if (!written) co_return written;
      mended = true;
    }
  }
  if (!mended) co_return OkStatus();
  co_return co_await device.Flush();
}

Task<Status> MapStore::Impl::FinishOpen() {
  Status status;
  if (superblock.features.clear != 0) {
    Superblock next = superblock;
    next.features.clear = 0;
    status = co_await WriteSuperblock(std::move(next));
  }
  if (status && superblock.old_superblock_chunk.value != kNone) {
    if (superblock.anchor_offset != kNone) {
      status = co_await PutAnchor(superblock.anchor_offset);
    }
    if (status) status = co_await EraseOldSuperblock();
  }
  if (status && superblock.anchor_offset != kNone) {
    status = co_await MendAnchor();
    if (status) status = co_await EraseStaleAnchor();
  }
  if (!status || journals.size() == 1) co_return status;
  // The checkpoint for the last journal was never finished, and its room is
  // what is reserved.
  const uint64_t count =
      ChainChunksFor(CheckpointBytes(map, region.base().size()), chunk_bytes());
  if (region.plain_free_count() < count) co_return status;
  if (Status s = co_await GoBackToCommitted(); !s) co_return s;
  Snapshot snapshot;
  snapshot.journal = journals.back().name;
  snapshot.sequence = writer.next_sequence();
  snapshot.name = NewChain(ChainKind::kCheckpoint);
  snapshot.chunks = TakeMetadata(count);
  snapshot.bytes = EncodeCheckpoint(map, region.base());
  status = co_await StoreSnapshot(snapshot);
  if (status || !MayBeElsewhere(status.error())) co_return status;
  // Nothing leads there, and the next commit may have more room.
  FreeMetadata(snapshot.chunks);
  co_return OkStatus();
}

}  // namespace bootstream
