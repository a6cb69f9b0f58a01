#include "bootagent/locate.h"

#include <algorithm>

#include "blockmap/disk/file_extents.h"
#include "blockmap/disk/find_migration.h"
#include "blockmap/disk/partition_table.h"
#include "blockmap/disk/region_tag.h"
#include "blockmap/image/image_facts.h"

namespace bootstream {
namespace {

bool SameDisk(const Job& job, const DiskIdentity& known) {
  const Sha256 none{};
  return known.size_bytes == job.device.size_bytes() &&
         (known.serial_sha256 == none || job.serial_sha256 == none ||
          known.serial_sha256 == job.serial_sha256);
}

// Where `tag` says that superblocks were comes first.
std::vector<DiskChunk> ScanOrder(std::span<const ByteExtent> extents, Grid grid,
                                 const RegionTag& tag) {
  auto chunks = WholeChunks(extents, grid);
  const auto& first = tag.superblock_chunks;
  // Clang 14 cannot build std::ranges::stable_partition.
  std::stable_partition(chunks.begin(), chunks.end(), [&](DiskChunk chunk) {
    return chunk == first[0] || chunk == first[1];
  });
  return chunks;
}

// kNotFound: no region file holds a migration there.
Task<Result<Superblock>> ScanRegionFile(const Job& job, ByteExtent partition) {
  const auto extents = FileExtents(job.disk, partition, kRegionFileName);
  if (!extents) {  // another file system, or no such file
    co_return Error{ErrorCode::kNotFound, extents.error().message};
  }
  const auto tag = ReadRegionTag(job.disk, partition, kRegionFileName);
  if (!tag) co_return tag.error();
  const Grid grid{tag->chunk_bytes, job.device.size_bytes()};
  const auto order = ScanOrder(*extents, grid, *tag);
  co_return co_await MapStore::ScanForSuperblock(job.device, tag->chunk_bytes,
                                                 tag->migration_id, order);
}

// What is damaged may be a parked system's: a person decides.
Error InRegionFile(const Error& error) {
  if (error.code != ErrorCode::kCorrupt) return error;
  return Error{error.code,
               error.message +
                   " (in .bootstream-region: if nothing of the new system is "
                   "to be kept, remove that file on the old system)"};
}

Task<Result<Located>> LocateInRegionFiles(const Job& job, Located located) {
  const auto table = co_await ReadPartitionTable(job.device);
  if (!table) co_return table.error();
  for (const Partition& partition : table->partitions) {
    auto found = co_await ScanRegionFile(job, partition.extent);
    if (!found) {
      if (found.error().code == ErrorCode::kNotFound) continue;
      co_return InRegionFile(found.error());
    }
    if (!SameDisk(job, found->disk)) {
      located.warnings.push_back(
          "a region file with the migration of another disk is ignored");
      continue;
    }
    located.by = Located::By::kRegionFile;
    located.superblock = std::move(*found);
    break;
  }
  co_return located;
}

}  // namespace

Task<Result<Located>> Locate(const Job& job) {
  auto found = co_await FindMigration(job.device, job.serial_sha256);
  if (!found) co_return found.error();
  if (auto known = WithoutDoubt(*found); !known) co_return known.error();
  Located located;
  located.warnings = std::move(found->warnings);
  if (!found->superblock) {
    co_return co_await LocateInRegionFiles(job, std::move(located));
  }
  located.by = found->by_stub ? Located::By::kStub : Located::By::kAnchor;
  located.superblock = std::move(found->superblock);
  co_return located;
}

Task<Result<OpenedMigration>> OpenMigration(const Job& job,
                                            const Superblock& superblock,
                                            bool read_only) {
  OpenedMigration opened;
  auto file = co_await MapStore::ReadManifest(job.device, superblock);
  if (!file) co_return file.error();
  opened.manifest_file = std::move(*file);
  auto manifest =
      Manifest::OpenPinned(opened.manifest_file, superblock.manifest_digest);
  if (!manifest) co_return manifest.error();
  opened.manifest = std::make_shared<const Manifest>(std::move(*manifest));
  auto store = co_await MapStore::Open(job.device, superblock,
                                       FactsOf(opened.manifest), read_only);
  if (!store) co_return store.error();
  opened.store = std::move(*store);
  co_return opened;
}

Status CheckNotOlder(const Superblock& on_disk, const Manifest& fetched) {
  const ManifestContent& content = fetched.content();
  if (content.name != on_disk.image_name ||
      fetched.version() >= on_disk.image_version ||
      fetched.digest() == on_disk.manifest_digest) {
    return OkStatus();
  }
  return Error{ErrorCode::kRefused,
               content.name + " " + content.version +
                   " is older than what this disk is on its way to; finish "
                   "that, or roll it back"};
}

}  // namespace bootstream
