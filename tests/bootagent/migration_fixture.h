#ifndef TESTS_BOOTAGENT_MIGRATION_FIXTURE_H_
#define TESTS_BOOTAGENT_MIGRATION_FIXTURE_H_

#include <unistd.h>

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "blockmap/base/posix_block_device.h"
#include "blockmap/disk/partition_table.h"
#include "bootagent/image_access.h"
#include "bootagent/migrate.h"
#include "bootagent/return.h"
#include "bootagent/rollback.h"
#include "tests/blockmap/disk/disk_fixture.h"
#include "tests/support/fake_chunk_source.h"

namespace bootstream {

// An image in memory as the agent sees it.
class FakeImageAccess final : public ImageAccess {
 public:
  FakeImageAccess(ManifestFile manifest, std::vector<std::byte> image,
                  uint32_t chunk_bytes)
      : manifest_(std::move(manifest)),
        source_(std::move(image), chunk_bytes) {}
  Task<Result<ManifestFile>> FetchManifest() override { co_return manifest_; }
  Result<ChunkSource*> Source(std::shared_ptr<const Manifest>,
                              const std::vector<std::string>&) override {
    return &source_;
  }
  const Manifest& manifest() const { return *manifest_.manifest; }
  FakeChunkSource& source() { return source_; }

 private:
  ManifestFile manifest_;
  FakeChunkSource source_;
};

// A source disk (ESP and a well-filled ext4 root) and a target image (ESP,
// /boot, root), both real, both small, on tmpfs.
class MigrationTest : public DiskTest {
 protected:
  static constexpr uint64_t kMiB = uint64_t{1} << 20;
  static constexpr uint64_t kChunk = kChunkBytesMin;
  static constexpr uint64_t kDiskBytes = 160 * kMiB + uint64_t{512} * 77;
  static constexpr uint64_t kImageBytes = 40 * kMiB;
  static constexpr ByteExtent kRoot{9 * kMiB, 150 * kMiB};

  void SetUp() override;

  // One run of the agent, as a process of its own would do it; ends at
  // `stop_at` with kUnavailable.
  Status RunMigrate(const std::string& disk, const std::string& stop_at = {});
  Status RunRollback(const std::string& disk, const std::string& stop_at = {});
  Status RunReturn(const std::string& disk, const std::string& stop_at = {});
  // The same over any device that holds the disk; `path` is where the source's
  // file system can be read.
  Status MigrateOn(BlockDevice& device, const std::string& path,
                   const std::string& stop_at = {});
  Status RollbackOn(BlockDevice& device, const std::string& path,
                    const std::string& stop_at = {});
  Status ReturnOn(BlockDevice& device, const std::string& path,
                  const std::string& stop_at = {});
  std::vector<DiskExtent> RegionOf(const std::string& disk);
  std::string StatusOf(const std::string& disk);
  // Its "phase".
  std::string PhaseOf(const std::string& disk);
  std::string MigrationIdOf(const std::string& disk);
  std::string Copy(const std::string& disk, const std::string& name);

  // Every boot-set chunk at home, tables included, equals the image; and as
  // planned.
  void ExpectArmed(const std::string& disk);
  // What has become of the region is what the plan has promised.
  void ExpectAsPlanned(const std::string& disk);
  // Every chunk outside the region equals `before`.
  void ExpectSource(const std::string& disk, const std::string& before);
  // The file system is clean, and its files are as they were made.
  void ExpectFilesIntact(const std::string& disk);
  // Boot the source, as it were, and change it.
  void ChangeSource(const std::string& disk, const std::string& text);

  std::string disk_;  // as it is before any migration
  std::unique_ptr<FakeImageAccess> access_;
  PlanOptions plan_options_;

 private:
  void MakeSource();
  void MakeImage();
};

}  // namespace bootstream

#endif  // TESTS_BOOTAGENT_MIGRATION_FIXTURE_H_
