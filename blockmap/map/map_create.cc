#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/base/coding.h"
#include "blockmap/map/map_store_impl.h"
#include "blockmap/map/sealed.h"

namespace bootstream {
namespace {

Error Invalid(std::string why) {
  return Error{ErrorCode::kInvalid, "map: " + std::move(why)};
}

// Extents that touch are one.
std::vector<DiskExtent> Joined(const std::vector<DiskExtent>& extents) {
  std::vector<DiskExtent> joined;
  for (const DiskExtent& extent : extents) {
    if (extent.count == 0) continue;
    if (!joined.empty() && joined.back().end() == extent.first) {
      joined.back().count += extent.count;
    } else {
      joined.push_back(extent);
    }
  }
  return joined;
}

Status CheckOptions(const BlockDevice& device,
                    const MapStore::CreateOptions& options) {
  const Superblock& sb = options.superblock;
  const Grid& image = options.image.grid;
  if (!IsChunkSize(sb.chunk_bytes) || image.chunk_bytes != sb.chunk_bytes) {
    return Invalid("chunks of " + std::to_string(sb.chunk_bytes) + " bytes");
  }
  if (image.size_bytes == 0 || image.size_bytes != sb.image_bytes) {
    return Invalid("image of " + std::to_string(sb.image_bytes) + " bytes");
  }
  if (sb.disk.size_bytes == 0 || sb.disk.size_bytes > device.size_bytes()) {
    return Invalid(
        "disk identity speaks of " + std::to_string(sb.disk.size_bytes) +
        " bytes, the disk has " + std::to_string(device.size_bytes()));
  }
  const MapLimits limits{image, Grid{sb.chunk_bytes, sb.disk.size_bytes}};
  if (Status s = CheckRegion(Joined(options.region), limits); !s) {
    return Invalid(s.error().message);
  }
  const auto encoded = EncodeSuperblock(sb);
  return encoded ? OkStatus() : Status(encoded.error());
}

Result<Uuid> RandomId() {
  Uuid id;
  if (::getrandom(id.data(), id.size(), 0) != static_cast<ssize_t>(id.size())) {
    return ErrnoError(errno, "getrandom");
  }
  return id;
}

// The first two of `order` that suit metadata best; falls back to what suits
// it at all.
std::vector<DiskChunk> ChooseSuperblockChunks(
    const Region& region, const std::vector<DiskChunk>& order) {
  std::vector<DiskChunk> chosen;
  for (const auto fit : {Region::Fit::kGood, Region::Fit::kPoor}) {
    for (const DiskChunk chunk : order) {
      if (chosen.size() == 2) break;
      if (!region.IsOurs(chunk) || region.FitForMetadata(chunk) != fit ||
          std::find(chosen.begin(), chosen.end(), chunk) != chosen.end()) {
        continue;
      }
      chosen.push_back(chunk);
    }
  }
  return chosen;
}

Task<Status> ZeroSlots(BlockDevice& device, const Superblock& sb) {
  const AlignedBuffer zeroes(kSuperblockSlotsBytes);
  for (const DiskChunk chunk : sb.superblock_chunks) {
    const Status status =
        co_await device.Write(chunk.value * sb.chunk_bytes, zeroes.span());
    if (!status) co_return status;
  }
  co_return OkStatus();
}

}  // namespace

Task<Result<std::unique_ptr<MapStore>>> MapStore::Create(
    BlockDevice& device, CreateOptions options) {
  options.superblock.image_bytes = options.image.grid.size_bytes;
  options.superblock.journal_chunks = std::max(1U, options.journal_chunks);
  options.superblock.spare_chunks = options.spare_chunks;
  options.superblock.superblock_chunks = {DiskChunk{0}, DiskChunk{1}};
  if (Status s = CheckOptions(device, options); !s) co_return s.error();
  if (AllZero(options.superblock.migration_id)) {
    const auto id = RandomId();
    if (!id) co_return id.error();
    options.superblock.migration_id = *id;
  }
  auto impl = std::make_unique<Impl>(
      device, std::move(options.superblock), std::move(options.image),
      BlockMap(), Joined(options.region), /*read_only=*/false);
  if (Status s = impl->TakeFirstPlaces(options); !s) co_return s.error();
  Status status = co_await impl->WriteFirst(options);
  if (!status) co_return status.error();
  co_return Impl::Wrap(std::move(impl));
}

Status MapStore::Impl::TakeFirstPlaces(const CreateOptions& options) {
  const uint64_t needed =
      MetadataChunks(image.grid, options.manifest_file.size(),
                     region.base().size(), superblock.journal_chunks);
  if (region.plain_free_count() < needed) {
    return Error{ErrorCode::kNoSpace,
                 "map: metadata needs " + std::to_string(needed) +
                     " chunks off the boot set's homes, the region has " +
                     std::to_string(region.plain_free_count())};
  }
  auto places = ChooseSuperblockChunks(region, options.superblock_order);
  for (const DiskChunk chunk : places) {
    region.SetOccupant(chunk, {ChunkUse::kMetadata, 0});
  }
  const auto more = TakeMetadata(2 - places.size());
  places.insert(places.end(), more.begin(), more.end());
  superblock.superblock_chunks = {places[0], places[1]};
  manifest_chunks =
      TakeMetadata(ChainChunksFor(options.manifest_file.size(), chunk_bytes()));
  checkpoint_chunks = TakeMetadata(ChainChunksFor(
      CheckpointBytes(map, region.base().size()), chunk_bytes()));
  JournalPlace journal;
  journal.chunks = TakeMetadata(superblock.journal_chunks);
  journals.push_back(std::move(journal));
  UpdateReserve();
  return OkStatus();
}

Task<Status> MapStore::Impl::WriteFirst(const CreateOptions& options) {
  next_epoch = 1;
  const ChainName manifest = NewChain(ChainKind::kManifest);
  const ChainName checkpoint = NewChain(ChainKind::kCheckpoint);
  JournalPlace& journal = journals.front();
  journal.name = NewChain(ChainKind::kJournal);
  constexpr uint64_t kFirstSequence = 1;
  durable_sequence = kFirstSequence;
  writer = JournalWriter(chunk_bytes(), journal,
                         JournalStart(journal.name, kFirstSequence));
  const std::vector<std::byte> bytes = EncodeCheckpoint(map, region.base());

  Status status = co_await ZeroSlots(device, superblock);
  if (status) {
    status = co_await WriteChain(device, chunk_bytes(), manifest,
                                 manifest_chunks, options.manifest_file);
  }
  if (status) {
    status = co_await WriteChain(device, chunk_bytes(), checkpoint,
                                 checkpoint_chunks, bytes);
  }
  if (status) {
    status = co_await WriteJournalHeaders(device, chunk_bytes(), journal.name,
                                          journal.chunks, kFirstSequence);
  }
  if (status) status = co_await device.Flush();
  if (!status) co_return status;

  Superblock first = superblock;
  first.sequence = 0;
  first.features = FeatureMasks{};
  first.anchor_offset = kNone;
  first.old_superblock_chunk = DiskChunk{kNone};
  first.manifest_bytes = options.manifest_file.size();
  first.manifest_chunk = manifest_chunks.front();
  first.manifest_epoch = manifest.epoch;
  first.checkpoint_chunk = checkpoint_chunks.front();
  first.checkpoint_epoch = checkpoint.epoch;
  first.journal_chunk = journal.chunks.front();
  first.journal_epoch = journal.name.epoch;
  first.journal_sequence = kFirstSequence;
  first.region_chunk_count = region.chunk_count();
  superblock.sequence = 0;
  co_return co_await WriteSuperblock(std::move(first));
}

}  // namespace bootstream
