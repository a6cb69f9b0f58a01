#include "tests/bootagent/migration_fixture.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "blockmap/disk/loop_mount.h"
#include "blockmap/disk/used_extents.h"
#include "bootagent/plan.h"
#include "bootagent/stage.h"
#include "bootagent/status.h"
#include "tests/support/fake_image.h"

namespace bootstream {
namespace {

void AddRange(std::vector<bool>& chunks, ByteExtent range, uint32_t chunk) {
  for (uint64_t c = range.offset / chunk; c * chunk < range.end(); ++c) {
    chunks[c] = true;
  }
}

std::vector<ChunkExtent> ToRuns(const std::vector<bool>& chunks) {
  std::vector<ChunkExtent> runs;
  for (uint64_t c = 0; c < chunks.size(); ++c) {
    if (!chunks[c]) continue;
    if (!runs.empty() && runs.back().first + runs.back().count == c) {
      ++runs.back().count;
    } else {
      runs.push_back({c, 1});
    }
  }
  return runs;
}

}  // namespace

void MigrationTest::SetUp() {
  DiskTest::SetUp();
  if (::geteuid() != 0 || ::access("/dev/loop-control", W_OK) != 0) {
    GTEST_SKIP() << "needs root and loop devices";
  }
  plan_options_.headroom_bytes = 8 * kMiB;
  MakeSource();
  MakeImage();
}

void MigrationTest::MakeSource() {
  disk_ = MakeFile("source", kDiskBytes);
  std::ofstream(Path("script"))
      << "label: gpt\nstart=2048, size=16384, type=U\n"
         "start=18432, size=307200, type=L\n";
  Run("sfdisk -q source < script && mkdir -p tree/etc &&"
      "for i in $(seq 40); do head -c 700000 /dev/urandom > tree/f$i; done &&"
      "echo old > tree/etc/os && mkfs.vfat --offset 2048 source 8192 &&"
      "mkfs.ext4 -q -E offset=9437184 -d tree source 150M &&"
      "(cd tree && find . -type f | sort | xargs sha256sum) > files");
}

void MigrationTest::MakeImage() {
  const std::string path = MakeFile("image", kImageBytes);
  std::ofstream(Path("script"))
      << "label: gpt\nstart=2048, size=8192, type=U\n"
         "start=10240, size=20480, type=L\nstart=30720, size=49152, type=L\n";
  Run("sfdisk -q image < script && mkdir -p boot root &&"
      "head -c 6000000 /dev/urandom > boot/vmlinuz &&"
      "head -c 8000000 /dev/urandom > root/data &&"
      "mkfs.vfat --offset 2048 image 4096 &&"
      "head -c 900000 /dev/urandom > loader &&"
      "mmd -i image@@1048576 ::/EFI &&"
      "mcopy -i image@@1048576 loader ::/EFI/LOADER &&"
      "mkfs.ext4 -q -E offset=5242880 -d boot image 10M &&"
      "mkfs.ext4 -q -E offset=15728640 -d root image 24M");
  const auto loaded = Load(path);
  std::vector<std::byte> bytes(loaded.size());
  std::memcpy(bytes.data(), loaded.data(), loaded.size());
  auto device = PosixBlockDevice::Open(path, OpenMode::kReadOnly);
  ASSERT_TRUE(device.has_value());
  const auto table = RunInline(ReadPartitionTable(*device));
  ASSERT_TRUE(table.has_value()) << table.error().message;

  ManifestContent content = DescribeImage(bytes, kChunk);
  std::vector<bool> boot(kImageBytes / kChunk);
  std::vector<bool> pinned(kImageBytes / kChunk);
  for (const ByteExtent& extent : table->table_extents) {
    AddRange(boot, extent, kChunk);
  }
  for (const int number : {0, 1}) {
    const ByteExtent extent = table->partitions[number].extent;
    const auto used = UsedExtents(path, extent);
    ASSERT_TRUE(used.has_value()) << used.error().message;
    for (const ByteExtent& one : *used) AddRange(boot, one, kChunk);
    AddRange(pinned, extent, kChunk);
  }
  AddRange(boot, {table->partitions[2].extent.offset, 4096}, kChunk);
  content.name = "new";
  content.version = "13.1";
  content.boot_set = ToRuns(boot);
  content.pinned = ToRuns(pinned);
  content.tables = table->table_extents;
  content.table_id = table->id;
  ManifestFile manifest;
  manifest.manifest =
      std::make_shared<const Manifest>(SignAndOpen(content, &manifest.file));
  access_ = std::make_unique<FakeImageAccess>(std::move(manifest),
                                              std::move(bytes), kChunk);
}

Status MigrationTest::MigrateOn(BlockDevice& device, const std::string& path,
                                const std::string& stop_at) {
  StopPoints stops(stop_at);
  Progress progress(stderr, Progress::Style::kSilent);
  const Job job{path, device, {}, stops, progress, 32};
  MigrateOptions options;
  options.image_name = "new";
  options.plan = plan_options_;
  return RunInline(Migrate(job, options, *access_));
}

Status MigrationTest::RollbackOn(BlockDevice& device, const std::string& path,
                                 const std::string& stop_at) {
  StopPoints stops(stop_at);
  Progress progress(stderr, Progress::Style::kSilent);
  const Job job{path, device, {}, stops, progress, 32};
  return RunInline(Rollback(job, {}));
}

Status MigrationTest::ReturnOn(BlockDevice& device, const std::string& path,
                               const std::string& stop_at) {
  StopPoints stops(stop_at);
  Progress progress(stderr, Progress::Style::kSilent);
  const Job job{path, device, {}, stops, progress, 32};
  return RunInline(Return(job, {}, *access_));
}

Status MigrationTest::RunMigrate(const std::string& disk,
                                 const std::string& stop_at) {
  auto device = PosixBlockDevice::Open(disk, OpenMode::kReadWrite);
  if (!device) return device.error();
  return MigrateOn(*device, disk, stop_at);
}

Status MigrationTest::RunRollback(const std::string& disk,
                                  const std::string& stop_at) {
  auto device = PosixBlockDevice::Open(disk, OpenMode::kReadWrite);
  if (!device) return device.error();
  return RollbackOn(*device, disk, stop_at);
}

Status MigrationTest::RunReturn(const std::string& disk,
                                const std::string& stop_at) {
  auto device = PosixBlockDevice::Open(disk, OpenMode::kReadWrite);
  if (!device) return device.error();
  return ReturnOn(*device, disk, stop_at);
}

std::string MigrationTest::StatusOf(const std::string& disk) {
  auto device = PosixBlockDevice::Open(disk, OpenMode::kReadOnly);
  StopPoints stops;
  Progress progress(stderr, Progress::Style::kSilent);
  const Job job{disk, *device, {}, stops, progress, 32};
  const auto json = RunInline(StatusJson(job));
  EXPECT_TRUE(json.has_value()) << json.error().message;
  return json ? *json : "{}";
}

std::string MigrationTest::PhaseOf(const std::string& disk) {
  return nlohmann::json::parse(StatusOf(disk)).value("phase", "");
}

std::string MigrationTest::MigrationIdOf(const std::string& disk) {
  return nlohmann::json::parse(StatusOf(disk)).value("migration_id", "");
}

std::vector<DiskExtent> MigrationTest::RegionOf(const std::string& disk) {
  std::vector<DiskExtent> region;
  const auto json = nlohmann::json::parse(StatusOf(disk));
  for (const auto& extent : json["region"]) {
    region.push_back({extent["first"], extent["count"]});
  }
  return region;
}

std::string MigrationTest::Copy(const std::string& disk,
                                const std::string& name) {
  Run("cp --sparse=always " + disk + " " + name);
  return Path(name);
}

void MigrationTest::ExpectAsPlanned(const std::string& disk) {
  const auto space = nlohmann::json::parse(StatusOf(disk))["space"];
  const auto number = [&](const char* what, const char* which) {
    return space[what][which].get<uint64_t>();
  };
  for (const char* what : {"relocations_at_most", "metadata_at_most"}) {
    EXPECT_GT(number(what, "actual"), 0u) << what;
    EXPECT_LE(number(what, "actual"), number(what, "predicted")) << what;
  }
  EXPECT_GE(number("room_for_image_at_least", "actual"),
            number("room_for_image_at_least", "predicted"));
}

void MigrationTest::ExpectArmed(const std::string& disk) {
  EXPECT_EQ(PhaseOf(disk), "armed");
  ExpectAsPlanned(disk);
  const auto bytes = Load(disk);
  const auto image = access_->source().image();
  for (const ImageChunk chunk : BootChunks(access_->manifest())) {
    const uint64_t at = chunk.value * kChunk;
    ASSERT_EQ(std::memcmp(bytes.data() + at, image.data() + at, kChunk), 0)
        << "boot chunk " << chunk.value << " is not at home";
  }
}

void MigrationTest::ExpectSource(const std::string& disk,
                                 const std::string& before) {
  const auto region = RegionOf(disk);
  EXPECT_FALSE(region.empty());
  const auto now = Load(disk);
  const auto then = Load(before);
  ASSERT_EQ(now.size(), then.size());
  for (uint64_t c = 0; c * kChunk < now.size(); ++c) {
    const bool ours = std::ranges::any_of(region, [&](const DiskExtent& e) {
      return c >= e.first && c < e.end();
    });
    if (ours) continue;
    const uint64_t at = c * kChunk;
    const size_t size = std::min<size_t>(kChunk, now.size() - at);
    ASSERT_EQ(std::memcmp(now.data() + at, then.data() + at, size), 0)
        << "source chunk " << c << " is not what it was";
  }
}

void MigrationTest::ExpectFilesIntact(const std::string& disk) {
  const std::string fs = "'" + disk + "?offset=9437184'";
  Run("e2fsck -fn " + fs +
      " && rm -rf out && mkdir out &&"
      "debugfs -R 'rdump / out' " +
      fs +
      " && cd out && "
      "sha256sum --quiet -c ../files");
}

void MigrationTest::ChangeSource(const std::string& disk,
                                 const std::string& text) {
  auto mount = LoopMount::MountExt4(disk, kRoot);
  ASSERT_TRUE(mount.has_value()) << mount.error().message;
  // Overwrites blocks in place, and blocks that boot chunks want.
  Run("cd " + mount->directory() + " && echo " + text +
      " > etc/os &&"
      "for i in 1 2 3; do head -c 700000 /dev/urandom > n &&"
      "cat n > f$i; done; rm n; sync;"
      "find . -type f ! -name .bootstream-region ! -path './lost*' | sort | "
      "xargs sha256sum > " +
      Path("files"));
  ASSERT_TRUE(mount->Unmount().has_value());
}

}  // namespace bootstream
