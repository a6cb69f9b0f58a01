#include "blockmap/disk/partition_table.h"

#include <cstring>

#include "blockmap/base/posix_block_device.h"
#include "tests/blockmap/disk/disk_fixture.h"
#include "tests/support/memory_device.h"

namespace bootstream {
namespace {

constexpr uint64_t kDiskBytes = 64 << 20;
constexpr uint64_t kSector = kSectorBytes;
constexpr uint64_t kLastSector = kDiskBytes / kSector - 1;

class PartitionTableTest : public DiskTest {
 protected:
  void Partition(const std::string& script) {
    disk_ = MakeFile("disk", kDiskBytes);
    std::ofstream(Path("script")) << script;
    Run("sfdisk -q disk < script");
  }
  void PartitionGpt() {
    Partition(
        "label: gpt\nlabel-id: 12345678-9ABC-DEF0-0123-456789ABCDEF\n"
        "start=2048, size=4096, type=U, name=Systemstück\n"
        "start=8192, size=16384, type=L\n");
  }
  Result<PartitionTable> Read() {
    auto device = PosixBlockDevice::Open(disk_, OpenMode::kReadOnly);
    EXPECT_TRUE(device.has_value());
    return RunInline(ReadPartitionTable(*device));
  }
  std::string disk_;
};

TEST_F(PartitionTableTest, GptIsRead) {
  PartitionGpt();
  const auto table = Read();
  ASSERT_TRUE(table.has_value()) << table.error().message;
  EXPECT_EQ(table->type, TableType::kGpt);
  EXPECT_EQ(GuidText(table->id), "12345678-9abc-def0-0123-456789abcdef");
  ASSERT_EQ(table->partitions.size(), 2u);
  EXPECT_EQ(table->partitions[0].type_guid, kEspTypeGuid);
  EXPECT_EQ(table->partitions[0].label, "Systemstück");
  EXPECT_EQ(table->partitions[1].number, 2u);
  EXPECT_EQ(table->partitions[1].extent,
            (ByteExtent{8192 * kSector, 16384 * kSector}));
}

TEST_F(PartitionTableTest, GptSectorsAreListedInTheOrderThatArms) {
  PartitionGpt();
  const auto table = Read();
  ASSERT_TRUE(table.has_value());
  EXPECT_EQ(
      table->table_extents,
      (std::vector<ByteExtent>{{(kLastSector - 32) * kSector, 32 * kSector},
                               {kLastSector * kSector, kSector},
                               {2 * kSector, 32 * kSector},
                               {kSector, kSector},
                               {0, kSector}}));
}

TEST_F(PartitionTableTest, DamageAnywhereInEitherGptCopyIsCorrupt) {
  PartitionGpt();
  for (const uint64_t at :
       {uint64_t{512}, uint64_t{512 + 56}, uint64_t{1024 + 40},
        kLastSector * 512, kLastSector * 512 + 30,
        (kLastSector - 32) * 512 + 130}) {
    Flip(disk_, at);
    const auto table = Read();
    ASSERT_FALSE(table.has_value()) << at;
    EXPECT_EQ(table.error().code, ErrorCode::kCorrupt) << at;
    Flip(disk_, at);
  }
  EXPECT_TRUE(Read().has_value());
}

TEST_F(PartitionTableTest, GptOnADiskThatWasCutIsCorrupt) {
  PartitionGpt();
  std::filesystem::resize_file(disk_, kDiskBytes / 2);
  const auto table = Read();
  ASSERT_FALSE(table.has_value());
  EXPECT_EQ(table.error().code, ErrorCode::kCorrupt);
}

TEST_F(PartitionTableTest, GptOfASmallerImageKeepsItsBackupInPlace) {
  PartitionGpt();
  std::filesystem::resize_file(disk_, kDiskBytes * 2);
  const auto table = Read();
  ASSERT_TRUE(table.has_value()) << table.error().message;
  EXPECT_EQ(table->table_extents[1].offset, kLastSector * 512);
}

TEST_F(PartitionTableTest, MbrWithLogicalPartitionsIsRead) {
  Partition(
      "label: dos\nlabel-id: 0xcafe1234\n"
      "start=2048, size=4096, type=83\nstart=8192, size=65536, type=5\n"
      "start=10240, size=2048, type=82\nstart=16384, size=2048, type=83\n");
  const auto table = Read();
  ASSERT_TRUE(table.has_value()) << table.error().message;
  EXPECT_EQ(table->type, TableType::kMbr);
  EXPECT_EQ(table->id[0], std::byte{0x34});
  EXPECT_EQ(table->id[3], std::byte{0xca});
  ASSERT_EQ(table->partitions.size(), 3u);
  EXPECT_EQ(table->partitions[1].number, 5u);
  EXPECT_EQ(table->partitions[1].mbr_type, 0x82);
  EXPECT_EQ(table->partitions[2].number, 6u);
  EXPECT_EQ(table->partitions[2].extent.offset, 16384u * 512);
  ASSERT_EQ(table->table_extents.size(), 3u);
  EXPECT_EQ(table->table_extents.back(), (ByteExtent{0, 512}));
}

TEST_F(PartitionTableTest, DiskWithoutATableHasNone) {
  disk_ = MakeFile("disk", kDiskBytes);
  auto table = Read();
  ASSERT_TRUE(table.has_value());
  EXPECT_EQ(table->type, TableType::kNone);
  Run("mkfs.vfat disk");
  table = Read();
  ASSERT_TRUE(table.has_value()) << table.error().message;
  EXPECT_EQ(table->type, TableType::kNone);
}

TEST_F(PartitionTableTest, LostProtectiveMbrIsNotTakenForNoTable) {
  PartitionGpt();
  Flip(disk_, 450);
  const auto table = Read();
  ASSERT_FALSE(table.has_value() && table->type != TableType::kMbr);
  Flip(disk_, 450);
  Flip(disk_, 510);
  ASSERT_FALSE(Read().has_value());
}

TEST_F(PartitionTableTest, NoRandomDamageOfTheHeadersIsTrusted) {
  PartitionGpt();
  const auto good = Load(disk_);
  MemoryDevice device(good.size());
  std::memcpy(device.bytes().data(), good.data(), good.size());
  for (uint64_t at = 512; at < 512 + 92; ++at) {
    device.bytes()[at] ^= std::byte{0xff};
    EXPECT_FALSE(RunInline(ReadPartitionTable(device)).has_value()) << at;
    device.bytes()[at] ^= std::byte{0xff};
  }
  EXPECT_TRUE(RunInline(ReadPartitionTable(device)).has_value());
}

}  // namespace
}  // namespace bootstream
