#include "bootagent/release.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/disk/file_extents.h"
#include "blockmap/disk/probe.h"
#include "blockmap/image/image_facts.h"
#include "bootagent/region_file.h"

namespace bootstream {
namespace {

Result<Uuid> RandomUuid() {
  Uuid id{};
  if (::getrandom(id.data(), id.size(), 0) != static_cast<ssize_t>(id.size())) {
    return ErrnoError(errno, "getrandom");
  }
  return id;
}

Result<Superblock> FirstSuperblock(const Plan& plan, const ManifestFile& image,
                                   const Sha256& fingerprint,
                                   const MigrationStrings& strings) {
  const auto id = RandomUuid();
  if (!id) return id.error();
  Superblock superblock;
  superblock.chunk_bytes = plan.disk_grid.chunk_bytes;
  superblock.migration_id = *id;
  superblock.disk = plan.identity;
  superblock.phase = Phase::kReleased;
  superblock.give_up_source_when_full = plan.give_up_source;
  superblock.guaranteed = plan.guaranteed;
  superblock.image_bytes = plan.image.size_bytes;
  superblock.image_version = image.manifest->version();
  superblock.manifest_digest = image.manifest->digest();
  superblock.manifest_bytes = image.file.size();
  superblock.target_table_id = image.manifest->content().table_id;
  superblock.source_fs_offset = plan.source_extent.offset;
  superblock.source_fs_uuid = plan.source_uuid;
  superblock.source_fingerprint = fingerprint;
  superblock.image_name = plan.image_name;
  superblock.network = strings.network;
  superblock.server_urls = strings.servers;
  return superblock;
}

// The next superblock of `grid` that a scan of `chunks` finds; false: none.
Task<Result<bool>> WipeOne(const Job& job, const Grid& grid,
                           std::span<const DiskChunk> chunks) {
  const auto found = co_await MapStore::ScanForSuperblock(
      job.device, grid.chunk_bytes, chunks);
  if (!found) {
    // A torn slot leads nowhere; MapStore::Create erases those before its own.
    const ErrorCode code = found.error().code;
    const bool none =
        code == ErrorCode::kNotFound || code == ErrorCode::kCorrupt;
    if (none) co_return false;
    co_return found.error();
  }
  const AlignedBuffer zeroes(kSuperblockSlotsBytes);
  for (const DiskChunk chunk : found->superblock_chunks) {
    if (std::ranges::find(chunks, chunk) == chunks.end()) {
      co_return Error{ErrorCode::kRefused,
                      "the region file holds a superblock that leads out of "
                      "it; remove .bootstream-region on the old system"};
    }
    auto s =
        co_await job.device.Write(grid.offset_of(chunk.value), zeroes.span());
    if (!s) co_return s.error();
  }
  if (auto s = co_await job.device.Flush(); !s) co_return s.error();
  co_return true;
}

}  // namespace

Task<Status> WipeSuperblocks(const Job& job,
                             std::span<const ByteExtent> extents) {
  // No braced list in the loop: compilers lose its array over a co_await.
  static constexpr std::array<uint32_t, 3> kSizes{
      kChunkBytesMin, kChunkBytesDefault, kChunkBytesMax};
  for (const uint32_t chunk_bytes : kSizes) {
    const Grid grid{chunk_bytes, job.device.size_bytes()};
    const auto chunks = WholeChunks(extents, grid);
    for (;;) {
      const auto wiped = co_await WipeOne(job, grid, chunks);
      if (!wiped) co_return wiped.error();
      if (!*wiped) break;
    }
  }
  co_return OkStatus();
}

Task<Result<std::unique_ptr<MapStore>>> Release(
    const Job& job, const Plan& plan, const ManifestFile& image,
    const MigrationStrings& strings) {
  job.progress.Start("release", 0);
  auto region = AllocateRegion(job, plan, *image.manifest);
  if (!region) co_return region.error();
  if (auto s = job.stops.Reach("region-allocated"); !s) co_return s.error();
  auto s = co_await WipeSuperblocks(job, region->extents);
  if (s) s = job.stops.Reach("superblocks-wiped");
  if (!s) co_return s.error();
  const auto fingerprint =
      co_await SourceFingerprint(job.device, plan.source_extent.offset);
  if (!fingerprint) co_return fingerprint.error();
  auto superblock = FirstSuperblock(plan, image, *fingerprint, strings);
  if (!superblock) co_return superblock.error();
  MapStore::CreateOptions options;
  options.superblock = std::move(*superblock);
  options.region = ToExtents(region->chunks);
  options.manifest_file = image.file;
  options.image = FactsOf(image.manifest);
  options.journal_chunks = plan.journal_chunks;
  options.spare_chunks = plan.account.spare;
  options.superblock_order = std::move(region->chunks);
  auto store = co_await MapStore::Create(job.device, std::move(options));
  if (!store) co_return store.error();
  job.progress.Finish();
  if (s = job.stops.Reach("released"); !s) co_return s.error();
  co_return store;
}

bool RegionIsInPlace(const Job& job, const MapStore& store) {
  const uint64_t offset = store.superblock().source_fs_offset;
  if (offset >= job.device.size_bytes()) return false;
  const ByteExtent fs{offset, job.device.size_bytes() - offset};
  const auto extents = FileExtents(job.disk, fs, kRegionFileName);
  if (!extents) return false;
  // The anchor's chunk may lie in the file and is not ours.
  const auto found = ToExtents(WholeChunks(*extents, store.disk_grid()));
  const auto& base = store.region().base();
  return std::ranges::all_of(base, [&](const DiskExtent& ours) {
    return std::ranges::any_of(found, [&](const DiskExtent& extent) {
      return extent.first <= ours.first && ours.end() <= extent.end();
    });
  });
}

Task<Result<bool>> SourceIsUntouched(const Job& job, const MapStore& store,
                                     SkippedSectors ours) {
  const Superblock& superblock = store.superblock();
  const auto fingerprint =
      co_await SourceFingerprint(job.device, superblock.source_fs_offset);
  if (!fingerprint) co_return fingerprint.error();
  if (*fingerprint != superblock.source_fingerprint) co_return false;
  if (!RegionIsInPlace(job, store)) co_return false;
  const auto changed = co_await FindChangedSource(job.device, store, ours);
  if (!changed) co_return changed.error();
  co_return !changed->has_value();
}

}  // namespace bootstream
