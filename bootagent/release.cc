#include "bootagent/release.h"

#include <algorithm>
#include <functional>

#include "blockmap/disk/file_extents.h"
#include "blockmap/disk/probe.h"
#include "blockmap/disk/region_tag.h"
#include "blockmap/image/image_facts.h"
#include "bootagent/region_file.h"

namespace bootstream {
namespace {

Superblock FirstSuperblock(const Plan& plan, const ManifestFile& image,
                           const MigrationStrings& strings) {
  Superblock superblock;
  superblock.chunk_bytes = plan.disk_grid.chunk_bytes;
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
  superblock.image_name = plan.image_name;
  superblock.network = strings.network;
  superblock.server_urls = strings.servers;
  return superblock;
}

// From here on the map is found.
Status TagRegion(const Job& job, const Plan& plan, const MapStore& store) {
  const Superblock& superblock = store.superblock();
  const RegionTag tag{superblock.chunk_bytes, superblock.migration_id,
                      superblock.superblock_chunks};
  return WriteRegionTag(job.disk, plan.source_extent, kRegionFileName, tag);
}

// The source is as we leave it; until this is durable, it counts as changed.
Task<Status> NoteFingerprint(const Job& job, MapStore& store) {
  const auto fingerprint = co_await SourceFingerprint(
      job.device, store.superblock().source_fs_offset);
  if (!fingerprint) co_return fingerprint.error();
  const std::function<void(Superblock&)> note = [&](Superblock& superblock) {
    superblock.source_fingerprint = *fingerprint;
  };
  co_return co_await store.UpdateSuperblock(note);
}

}  // namespace

Task<Result<std::unique_ptr<MapStore>>> Release(
    const Job& job, const Plan& plan, const ManifestFile& image,
    const MigrationStrings& strings) {
  job.progress.Start("release", 0);
  auto region = AllocateRegion(job, plan, *image.manifest);
  if (!region) co_return region.error();
  if (auto s = job.stops.Reach("region-allocated"); !s) co_return s.error();
  MapStore::CreateOptions options;
  options.superblock = FirstSuperblock(plan, image, strings);
  options.region = ToExtents(region->chunks);
  options.manifest_file = image.file;
  options.image = FactsOf(image.manifest);
  options.journal_chunks = plan.journal_chunks;
  options.spare_chunks = plan.account.spare;
  options.superblock_order = std::move(region->chunks);
  auto store = co_await MapStore::Create(job.device, std::move(options));
  if (!store) co_return store.error();
  auto s = job.stops.Reach("map-created");
  if (s) s = TagRegion(job, plan, **store);
  if (s) s = job.stops.Reach("region-tagged");
  if (s) s = co_await NoteFingerprint(job, **store);
  if (!s) co_return s.error();
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
