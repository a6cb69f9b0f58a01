#include "initramfs/grow/table_growth.h"

#include <algorithm>
#include <cstring>

#include "blockmap/base/coding.h"
#include "tests/blockmap/disk/disk_fixture.h"
#include "tests/crash/crash_states.h"
#include "tests/crash/scratch_disk.h"
#include "tests/support/memory_device.h"

namespace bootstream {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kImageBytes = 40 * kMiB;
constexpr uint64_t kDiskBytes = 70 * kMiB;
constexpr uint64_t kSectorsOfGpt = 33;

// Tables that sfdisk makes for a small disk, on a larger one; what comes of
// them is judged by sgdisk and by our own strict reader.
class TableGrowthTest : public DiskTest {
 protected:
  std::vector<std::byte> Made(const std::string& script, uint64_t image,
                              uint64_t disk) {
    const std::string path = MakeFile("disk", image);
    std::ofstream(Path("script")) << script;
    Run("sfdisk -q disk < script");
    std::filesystem::resize_file(path, disk);
    const auto bytes = Load(path);
    std::vector<std::byte> out(bytes.size());
    std::memcpy(out.data(), bytes.data(), bytes.size());
    return out;
  }
  std::vector<std::byte> Gpt(uint64_t image = kImageBytes,
                             uint64_t disk = kDiskBytes) {
    return Made(
        "label: gpt\nlabel-id: 12345678-9ABC-DEF0-0123-456789ABCDEF\n"
        "start=8192, size=65536, type=L, "
        "uuid=00112233-4455-6677-8899-AABBCCDDEEFF, name=root\n"
        "start=2048, size=4096, type=U\n",
        image, disk);
  }
  void Save(MemoryDevice& device) {
    std::ofstream out(Path("disk"), std::ios::binary);
    const auto bytes = device.bytes();
    out.write(reinterpret_cast<const char*>(bytes.data()),
              static_cast<std::streamsize>(bytes.size()));
  }
};

Result<TableGrowth> Plan(MemoryDevice& device, bool grow_last = true) {
  const auto table = RunInline(ReadTableToGrow(device));
  if (!table) return table.error();
  return PlanTableGrowth(*table, grow_last);
}

// Plan and write; what is wrong, or nothing.
std::string Grow(MemoryDevice& device, bool grow_last = true) {
  const auto growth = Plan(device, grow_last);
  if (!growth) return growth.error().message;
  const Status written = RunInline(WriteTableGrowth(device, *growth));
  if (!written) return written.error().message;
  const auto done = RunInline(IsGrown(device, *growth));
  return done && *done ? "" : "it is not what was planned";
}

PartitionTable Read(MemoryDevice& device) {
  const auto table = RunInline(ReadPartitionTable(device));
  EXPECT_TRUE(table.has_value()) << table.error().message;
  return table.value_or(PartitionTable{});
}

TEST_F(TableGrowthTest, TheLastPartitionEndsAtTheLastMebibyte) {
  MemoryDevice device(Gpt());
  ASSERT_EQ(Grow(device), "");
  const PartitionTable table = Read(device);
  ASSERT_EQ(table.partitions.size(), 2u);
  EXPECT_EQ(table.partitions[0].extent,
            (ByteExtent{4 * kMiB, kDiskBytes - kMiB - 4 * kMiB}));
  EXPECT_EQ(table.partitions[1].extent, (ByteExtent{kMiB, 2 * kMiB}));
  // The second copy's header is the last sector.
  EXPECT_EQ(table.table_extents[1].end(), kDiskBytes);
}

TEST_F(TableGrowthTest, ItsGuidsAndNamesStay) {
  MemoryDevice device(Gpt());
  const PartitionTable before = Read(device);
  ASSERT_EQ(Grow(device), "");
  const PartitionTable after = Read(device);
  ASSERT_EQ(after.partitions.size(), 2u);
  EXPECT_EQ(after.id, before.id);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(after.partitions[i].guid, before.partitions[i].guid);
    EXPECT_EQ(after.partitions[i].type_guid, before.partitions[i].type_guid);
    EXPECT_EQ(after.partitions[i].label, before.partitions[i].label);
  }
}

TEST_F(TableGrowthTest, SgdiskHasNothingToSay) {
  for (const uint64_t more : {uint64_t{0}, uint64_t{512}, uint64_t{32 * 512},
                              uint64_t{34 * 512}, 30 * kMiB}) {
    MemoryDevice device(Gpt(kImageBytes, kImageBytes + more));
    ASSERT_EQ(Grow(device), "") << more;
    Save(device);
    Run("sgdisk -v disk | tee verified; grep -q 'No problems found' verified; "
        "! grep -iE 'warning|caution|problem:' verified; "
        "! sfdisk -d disk 2>&1 | grep -i mismatch");
  }
}

TEST_F(TableGrowthTest, OnlyTheTableIsWritten) {
  const auto before = Gpt();
  MemoryDevice device(before);
  ASSERT_EQ(Grow(device), "");
  const uint64_t old = kImageBytes - kSectorBytes;
  for (uint64_t at = 0; at < kDiskBytes; at += kSectorBytes) {
    const bool same =
        std::memcmp(before.data() + at, device.bytes().data() + at,
                    kSectorBytes) == 0;
    const bool table = at < 34 * kSectorBytes || at == old ||
                       at >= kDiskBytes - kSectorsOfGpt * kSectorBytes;
    EXPECT_TRUE(same || table) << at;
  }
}

TEST_F(TableGrowthTest, TheOldSecondHeaderIsGone) {
  MemoryDevice device(Gpt());
  ASSERT_EQ(Grow(device), "");
  EXPECT_TRUE(AllZero(
      device.bytes().subspan(kImageBytes - kSectorBytes, kSectorBytes)));
}

TEST_F(TableGrowthTest, APartitionThatIsNotGrownStaysAndTheTableMoves) {
  MemoryDevice device(Gpt());
  ASSERT_EQ(Grow(device, /*grow_last=*/false), "");
  const PartitionTable table = Read(device);
  ASSERT_EQ(table.partitions.size(), 2u);
  EXPECT_EQ(table.partitions[0].extent, (ByteExtent{4 * kMiB, 32 * kMiB}));
  EXPECT_EQ(table.table_extents[1].end(), kDiskBytes);
  // There is room now for somebody else, or for a second run.
  ASSERT_EQ(Grow(device), "");
  EXPECT_EQ(Read(device).partitions[0].extent.end(), kDiskBytes - kMiB);
}

TEST_F(TableGrowthTest, WhatIsGrownIsNotWrittenAgain) {
  MemoryDevice device(Gpt());
  auto growth = Plan(device);
  ASSERT_TRUE(growth.has_value());
  EXPECT_FALSE(RunInline(IsGrown(device, *growth)).value_or(true));
  ASSERT_EQ(Grow(device), "");
  growth = Plan(device);
  ASSERT_TRUE(growth.has_value());
  EXPECT_TRUE(RunInline(IsGrown(device, *growth)).value_or(false));
  EXPECT_EQ(growth->last.end(), kDiskBytes - kMiB);
}

TEST_F(TableGrowthTest, NothingBecomesSmaller) {
  // It ends behind the last multiple of 1 MiB.
  MemoryDevice device(Made("label: gpt\nstart=2048, size=79800, type=L\n",
                           kImageBytes, kImageBytes));
  ASSERT_EQ(Grow(device), "");
  EXPECT_EQ(Read(device).partitions[0].extent.size, 79800u * 512);
}

// Every flush, and what a power cut there may leave (the crash simulator's
// phase grow does the same on other tables).
TEST_F(TableGrowthTest, AWholeFirstCopyIsThereWheneverThePowerFails) {
  for (const uint64_t more : {uint64_t{0}, uint64_t{512}, uint64_t{20 * 512},
                              uint64_t{50 * 512}, 4 * kMiB}) {
    const auto base = Made(
        "label: gpt\nstart=2048, size=2048, type=L\n"
        "start=4096, size=3000, type=L\n",
        4 * kMiB, 4 * kMiB + more);
    RecordingDevice device(base);
    const auto table = RunInline(ReadTableToGrow(device));
    ASSERT_TRUE(table.has_value());
    const auto growth = PlanTableGrowth(*table, true);
    ASSERT_TRUE(growth.has_value());
    ASSERT_TRUE(RunInline(WriteTableGrowth(device, *growth)).has_value());
    const Recording recording = device.TakeRecording();
    ScratchDisk disk(base);
    uint64_t durable = 0;
    for (const CrashPoint& point : CrashPointsOf(recording)) {
      for (; durable < point.durable; ++durable) {
        const auto& write = recording.writes[durable];
        disk.Put(write.offset, write.data);
      }
      disk.Keep();
      const CrashStates states(point, disk.bytes(), 1);
      for (uint64_t i = 0; i < states.NumbersFor(40); ++i) {
        for (const auto& piece : states.Make(i).pieces) {
          disk.Put(piece.offset, piece.data);
        }
        const auto first = RunInline(ReadGptCopy(disk, 1));
        ASSERT_TRUE(first.has_value()) << more << ": " << first.error().message;
        const auto left = RunInline(ReadTableToGrow(disk));
        ASSERT_TRUE(left.has_value()) << left.error().message;
        const auto rest = PlanTableGrowth(*left, true);
        ASSERT_TRUE(rest.has_value()) << rest.error().message;
        ASSERT_TRUE(RunInline(WriteTableGrowth(disk, *rest)).has_value());
        ASSERT_TRUE(std::ranges::equal(disk.bytes(), device.bytes())) << more;
        disk.Reset();
      }
    }
  }
}

TEST_F(TableGrowthTest, ALostFirstCopyIsMadeFromTheSecond) {
  MemoryDevice device(Gpt());
  ASSERT_EQ(Grow(device), "");
  const std::vector<std::byte> good(device.bytes().begin(),
                                    device.bytes().end());
  device.bytes()[512 + 30] ^= std::byte{1};
  device.bytes()[1024] ^= std::byte{1};
  EXPECT_FALSE(RunInline(ReadPartitionTable(device)).has_value());
  ASSERT_EQ(Grow(device), "");
  EXPECT_TRUE(std::ranges::equal(device.bytes(), good));
}

TEST_F(TableGrowthTest, AnotherTableIsRefused) {
  MemoryDevice none(kImageBytes);
  EXPECT_EQ(Plan(none).error().code, ErrorCode::kNotFound);
  auto bytes = Gpt();
  bytes.resize(kImageBytes / 2);
  MemoryDevice cut(bytes);
  const auto growth = Plan(cut);
  ASSERT_FALSE(growth.has_value());
  EXPECT_EQ(growth.error().code, ErrorCode::kCorrupt);
}

TEST_F(TableGrowthTest, BothCopiesDamagedIsAnError) {
  auto bytes = Gpt(kImageBytes, kImageBytes);
  bytes[512] ^= std::byte{1};
  bytes[kImageBytes - 512] ^= std::byte{1};
  MemoryDevice device(bytes);
  EXPECT_EQ(Plan(device).error().code, ErrorCode::kCorrupt);
}

TEST_F(TableGrowthTest, AnMbrsLastPrimaryPartitionGrows) {
  MemoryDevice device(
      Made("label: dos\nstart=2048, size=4096, type=83\n"
           "start=8192, size=8192, type=5\nstart=10240, size=2048, type=83\n"
           "start=32768, size=40960, type=83\n",
           kImageBytes, kDiskBytes));
  ASSERT_EQ(Grow(device), "");
  const PartitionTable table = Read(device);
  const auto& last = table.partitions[1];
  EXPECT_EQ(last.number, 3u);
  EXPECT_EQ(last.extent, (ByteExtent{16 * kMiB, kDiskBytes - 16 * kMiB}));
  Save(device);
  Run("sfdisk -V disk");
}

TEST_F(TableGrowthTest, ALogicalPartitionAtTheEndIsRefused) {
  const std::string logical =
      "label: dos\nstart=2048, size=4096, type=83\n"
      "start=8192, size=65536, type=5\nstart=10240, size=2048, type=83\n";
  MemoryDevice device(Made(logical, kImageBytes, kDiskBytes));
  EXPECT_EQ(Plan(device).error().code, ErrorCode::kUnsupported);
  // Not asked to grow it, there is nothing to do.
  EXPECT_EQ(Grow(device, /*grow_last=*/false), "");
  MemoryDevice empty(
      Made("label: dos\nstart=2048, size=4096, type=83\n"
           "start=8192, size=65536, type=5\n",
           kImageBytes, kDiskBytes));
  EXPECT_EQ(Plan(empty).error().code, ErrorCode::kUnsupported);
}

TEST_F(TableGrowthTest, AnMbrEndsAtTwoTebibytes) {
  TableToGrow table;
  table.type = TableType::kMbr;
  table.disk_bytes = uint64_t{3} << 40;
  table.lba0 = AlignedBuffer(kSectorBytes);
  Partition partition;
  partition.number = 1;
  partition.extent = {kMiB, 8 * kMiB};
  table.partitions.push_back(partition);
  const auto growth = PlanTableGrowth(table, true);
  ASSERT_TRUE(growth.has_value()) << growth.error().message;
  EXPECT_EQ(growth->last.end(), uint64_t{2} << 40);
}

TEST_F(TableGrowthTest, AHybridMbrIsLeftAlone) {
  auto bytes = Gpt();
  bytes[446 + 16 + 4] = std::byte{0x83};
  MemoryDevice device(bytes);
  const auto growth = Plan(device);
  ASSERT_TRUE(growth.has_value());
  for (const TableStep& step : growth->steps) {
    for (const TableWrite& write : step) EXPECT_NE(write.offset, 0u);
  }
}

}  // namespace
}  // namespace bootstream
