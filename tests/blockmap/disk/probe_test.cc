#include "blockmap/disk/probe.h"

#include <unistd.h>

#include "blockmap/base/posix_block_device.h"
#include "blockmap/disk/loop_mount.h"
#include "tests/blockmap/disk/disk_fixture.h"

namespace bootstream {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr ByteExtent kRoot{40 * kMiB, 50 * kMiB};

class ProbeTest : public DiskTest {
 protected:
  void SetUp() override {
    DiskTest::SetUp();
    disk_ = MakeFile("disk", 100 * kMiB);
    std::ofstream(Path("script"))
        << "label: gpt\nstart=2048, size=32768, type=U\n"
           "start=81920, size=102400, type=L\n";
    Run("sfdisk -q disk < script && mkfs.vfat -n EFI --offset 2048 disk 16384 "
        "&& mkfs.ext4 -q -L old -U 11111111-2222-3333-4444-555555555555 "
        "-E offset=41943040 disk 50M");
  }
  Result<ProbedDisk> Probe(const std::string& serial = {}) {
    auto device = PosixBlockDevice::Open(disk_, OpenMode::kReadOnly);
    EXPECT_TRUE(device.has_value());
    return RunInline(ProbeDisk(disk_, *device, serial));
  }
  std::string disk_;
};

TEST_F(ProbeTest, PartitionsAndTheirFileSystemsAreNamed) {
  const auto disk = Probe();
  ASSERT_TRUE(disk.has_value()) << disk.error().message;
  ASSERT_EQ(disk->partitions.size(), 2u);
  EXPECT_EQ(disk->partitions[0].content.type, "vfat");
  EXPECT_EQ(disk->partitions[1].content.type, "ext4");
  EXPECT_EQ(disk->partitions[1].content.label, "old");
  EXPECT_EQ(disk->whole.type, "");
  ASSERT_TRUE(disk->partitions[1].ext.has_value());
  const ExtFacts& ext = *disk->partitions[1].ext;
  EXPECT_TRUE(ext.clean);
  EXPECT_TRUE(ext.has_extents);
  EXPECT_EQ(ext.size_bytes(), 50 * kMiB);
  EXPECT_EQ(ext.uuid[0], std::byte{0x11});
}

TEST_F(ProbeTest, IdentityHoldsTableAndSerial) {
  const auto plain = Probe();
  const auto named = Probe("S123");
  ASSERT_TRUE(plain.has_value() && named.has_value());
  EXPECT_EQ(plain->identity.size_bytes, 100 * kMiB);
  EXPECT_EQ(plain->identity.table_type, TableType::kGpt);
  EXPECT_EQ(plain->identity.source_table_id, plain->table.id);
  EXPECT_EQ(plain->identity.serial_sha256, Sha256{});
  EXPECT_NE(named->identity.serial_sha256, Sha256{});
}

TEST_F(ProbeTest, UncleanJournalIsSeen) {
  Run("debugfs -w -R 'feature needs_recovery' 'disk?offset=41943040'");
  const auto disk = Probe();
  ASSERT_TRUE(disk.has_value()) << disk.error().message;
  EXPECT_FALSE(disk->partitions[1].ext->clean);
}

TEST_F(ProbeTest, LvmAndLuksAndRaidAreNamed) {
  // LUKS1 header: magic and version are what libblkid goes by.
  Run("dd if=/dev/zero of=disk bs=1M seek=40 count=1 conv=notrunc &&"
      "printf 'LUKS\\272\\276\\000\\001' | dd of=disk bs=1M seek=40 "
      "conv=notrunc");
  const auto disk = Probe();
  ASSERT_TRUE(disk.has_value());
  EXPECT_EQ(disk->partitions[1].content.type, "crypto_LUKS");
  EXPECT_EQ(disk->partitions[1].content.usage, "crypto");
}

TEST_F(ProbeTest, FingerprintChangesWithTheFileSystemOnly) {
  const auto fingerprint = [&] {
    auto device = PosixBlockDevice::Open(disk_, OpenMode::kReadOnly);
    return RunInline(SourceFingerprint(*device, kRoot.offset)).value();
  };
  const Sha256 before = fingerprint();
  Flip(disk_, kRoot.offset + 10);         // boot block
  Flip(disk_, kRoot.offset + 20 * kMiB);  // data
  EXPECT_EQ(fingerprint(), before);
  Run("tune2fs -L changed 'disk?offset=41943040'");
  EXPECT_NE(fingerprint(), before);
}

TEST_F(ProbeTest, FingerprintBeyondTheDiskIsCorrupt) {
  auto device = PosixBlockDevice::Open(disk_, OpenMode::kReadOnly);
  for (const uint64_t offset :
       {100 * kMiB, ~uint64_t{0} / 512 * 512, uint64_t{1}}) {
    EXPECT_FALSE(RunInline(SourceFingerprint(*device, offset)).has_value());
  }
}

TEST_F(ProbeTest, MountedDiskFileIsRefused) {
  if (::geteuid() != 0 || ::access("/dev/loop-control", W_OK) != 0) {
    GTEST_SKIP() << "needs root and loop devices";
  }
  EXPECT_TRUE(CheckNotInUse(disk_).has_value());
  auto mount = LoopMount::MountExt4(disk_, kRoot);
  ASSERT_TRUE(mount.has_value()) << mount.error().message;
  const auto status = CheckNotInUse(disk_);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, ErrorCode::kRefused);
  ASSERT_TRUE(mount->Unmount().has_value());
  EXPECT_TRUE(CheckNotInUse(disk_).has_value());
}

TEST_F(ProbeTest, MountChangesTheFingerprint) {
  if (::geteuid() != 0 || ::access("/dev/loop-control", W_OK) != 0) {
    GTEST_SKIP() << "needs root and loop devices";
  }
  auto device = PosixBlockDevice::Open(disk_, OpenMode::kReadOnly);
  const auto before = RunInline(SourceFingerprint(*device, kRoot.offset));
  auto mount = LoopMount::MountExt4(disk_, kRoot);
  ASSERT_TRUE(mount.has_value());
  ASSERT_TRUE(mount->Unmount().has_value());
  const auto after = RunInline(SourceFingerprint(*device, kRoot.offset));
  EXPECT_NE(*before, *after);
}

}  // namespace
}  // namespace bootstream
