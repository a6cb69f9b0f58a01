#include "blockmap/disk/used_extents.h"

#include "tests/blockmap/disk/disk_fixture.h"

namespace bootstream {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr ByteExtent kPartition{3 * kMiB, 64 * kMiB};

uint64_t Total(const std::vector<ByteExtent>& used) {
  uint64_t total = 0;
  for (const ByteExtent& extent : used) total += extent.size;
  return total;
}

class UsedExtentsTest : public DiskTest {
 protected:
  // A file system image at kPartition in a larger, noisy disk file.
  std::string Place() {
    std::string disk = MakeFile("disk", kPartition.end() + 5 * kMiB);
    Run("dd if=fs of=disk bs=1M seek=3 conv=notrunc");
    return disk;
  }
  // Everything that is used must equal; the rest is wiped, and the file system
  // must still be whole.
  std::string KeepOnlyUsed(const std::string& disk,
                           const std::vector<ByteExtent>& used) {
    const auto bytes = Load(disk);
    std::string out = MakeFile("kept", kPartition.size);
    std::fstream file(out, std::ios::in | std::ios::out | std::ios::binary);
    const std::vector<char> noise(kPartition.size, '\xa5');
    file.write(noise.data(), static_cast<std::streamsize>(noise.size()));
    for (const ByteExtent& extent : used) {
      file.seekp(static_cast<std::streamoff>(extent.offset - 3 * kMiB));
      file.write(bytes.data() + extent.offset,
                 static_cast<std::streamsize>(extent.size));
    }
    return out;
  }
};

TEST_F(UsedExtentsTest, ExtIsWholeWithNothingButItsUsedBlocks) {
  for (const char* make :
       {"mkfs.ext4 -q -b 4096", "mkfs.ext4 -q -b 1024", "mkfs.ext2 -q",
        "mkfs.ext4 -q -O bigalloc -C 16384"}) {
    MakeFile("fs", kPartition.size);
    Run("mkdir -p tree/a && head -c 9000000 /dev/urandom > tree/a/file &&" +
        std::string(make) + " -d tree fs");
    const std::string disk = Place();
    const auto used = UsedExtents(disk, kPartition);
    ASSERT_TRUE(used.has_value()) << used.error().message;
    EXPECT_LT(Total(*used), 30 * kMiB) << make;
    EXPECT_GT(Total(*used), 9000000u) << make;
    KeepOnlyUsed(disk, *used);
    Run("e2fsck -fn kept && debugfs -R 'dump /a/file out' kept &&"
        "cmp out tree/a/file");
  }
}

TEST_F(UsedExtentsTest, FatOfEveryWidthIsWholeWithNothingButItsUsedClusters) {
  for (const char* make : {"mkfs.vfat -F 12 -s 64", "mkfs.vfat -F 16 -s 4",
                           "mkfs.vfat -F 32 -s 1"}) {
    MakeFile("fs", kPartition.size);
    Run(std::string(make) +
        " fs && head -c 5000000 /dev/urandom > file && "
        "mcopy -o -i fs file ::file && mcopy -i fs file ::second && "
        "mdel -i fs ::file");
    const std::string disk = Place();
    const auto used = UsedExtents(disk, kPartition);
    ASSERT_TRUE(used.has_value()) << used.error().message;
    EXPECT_LT(Total(*used), 7 * kMiB) << make;
    KeepOnlyUsed(disk, *used);
    Run("fsck.vfat -n kept && rm -f out && mcopy -i kept ::second out && "
        "cmp out file");
  }
}

TEST_F(UsedExtentsTest, UnknownFileSystemIsUnsupported) {
  const std::string disk = MakeFile("disk", 80 * kMiB);
  const auto used = UsedExtents(disk, kPartition);
  ASSERT_FALSE(used.has_value());
  EXPECT_EQ(used.error().code, ErrorCode::kUnsupported);
}

TEST_F(UsedExtentsTest, FileSystemLargerThanItsPartitionIsCorrupt) {
  MakeFile("fs", kPartition.size);
  Run("mkfs.ext4 -q fs");
  std::string disk = Place();
  auto used = UsedExtents(disk, {kPartition.offset, kPartition.size / 2});
  ASSERT_FALSE(used.has_value());
  EXPECT_EQ(used.error().code, ErrorCode::kCorrupt);
  Run("mkfs.vfat fs");
  disk = Place();
  used = UsedExtents(disk, {kPartition.offset, kPartition.size / 2});
  ASSERT_FALSE(used.has_value());
  EXPECT_EQ(used.error().code, ErrorCode::kCorrupt);
}

TEST(AppendExtentTest, TouchingExtentsAreJoined) {
  std::vector<ByteExtent> list;
  AppendExtent(list, {0, 10});
  AppendExtent(list, {10, 0});
  AppendExtent(list, {10, 5});
  AppendExtent(list, {20, 5});
  EXPECT_EQ(list, (std::vector<ByteExtent>{{0, 15}, {20, 5}}));
}

}  // namespace
}  // namespace bootstream
