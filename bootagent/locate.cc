#include "bootagent/locate.h"

#include <array>

#include "blockmap/disk/file_extents.h"
#include "blockmap/disk/find_migration.h"
#include "blockmap/disk/partition_table.h"
#include "blockmap/image/image_facts.h"

namespace bootstream {
namespace {

// The chunk size is known only when the superblock has been found.
constexpr std::array<uint32_t, 3> kChunkSizes{kChunkBytesDefault,
                                              kChunkBytesMin, kChunkBytesMax};

bool SameDisk(const Job& job, const DiskIdentity& known) {
  const Sha256 none{};
  return known.size_bytes == job.device.size_bytes() &&
         (known.serial_sha256 == none || job.serial_sha256 == none ||
          known.serial_sha256 == job.serial_sha256);
}

Task<Result<std::optional<Superblock>>> ScanRegionFile(
    const Job& job, const std::vector<ByteExtent>& extents) {
  // A slot that a power cut tore says nothing on the grid of another size: the
  // slots that make up for it are not where that grid has them.
  std::optional<Error> damage;
  for (const uint32_t chunk_bytes : kChunkSizes) {
    const Grid grid{chunk_bytes, job.device.size_bytes()};
    auto found = co_await MapStore::ScanForSuperblock(
        job.device, chunk_bytes, WholeChunks(extents, grid));
    if (found) co_return std::optional<Superblock>(std::move(*found));
    const ErrorCode code = found.error().code;
    if (code == ErrorCode::kCorrupt) {
      damage = found.error();
    } else if (code != ErrorCode::kNotFound) {
      co_return found.error();
    }
  }
  if (damage) co_return *damage;
  co_return std::optional<Superblock>();
}

Task<Result<Located>> LocateInRegionFiles(const Job& job, Located located) {
  const auto table = co_await ReadPartitionTable(job.device);
  if (!table) co_return table.error();
  for (const Partition& partition : table->partitions) {
    const auto extents =
        FileExtents(job.disk, partition.extent, kRegionFileName);
    if (!extents) continue;  // another file system, or no such file
    auto found = co_await ScanRegionFile(job, *extents);
    if (!found) co_return found.error();
    if (!*found) continue;
    if (!SameDisk(job, (*found)->disk)) {
      located.warnings.push_back(
          "a region file with the migration of another disk is ignored");
      continue;
    }
    located.by = Located::By::kRegionFile;
    located.superblock = std::move(**found);
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
