#include "blockmap/disk/file_extents.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "blockmap/base/unique_fd.h"
#include "blockmap/disk/loop_mount.h"
#include "tests/blockmap/disk/disk_fixture.h"

namespace bootstream {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr ByteExtent kPartition{kMiB, 128 * kMiB};
constexpr char kName[] = ".bootstream-region";

bool CanMount() {
  return ::geteuid() == 0 && ::access("/dev/loop-control", R_OK | W_OK) == 0;
}

class FileExtentsTest : public DiskTest {
 protected:
  void SetUp() override {
    DiskTest::SetUp();
    if (!CanMount()) GTEST_SKIP() << "needs root and loop devices";
    disk_ = MakeFile("disk", 140 * kMiB);
    Run("mkfs.ext4 -q -E offset=1048576 disk 128M");
  }
  void Check() {
    Run("dd if=disk of=fs bs=1M skip=1 count=128 && e2fsck -fn fs");
  }
  std::string disk_;
};

uint64_t Total(const std::vector<ByteExtent>& extents) {
  uint64_t total = 0;
  for (const ByteExtent& extent : extents) total += extent.size;
  return total;
}

TEST_F(FileExtentsTest, AllocatedFileBelongsToTheFileSystem) {
  const auto extents = AllocateFile(disk_, kPartition, kName, 40 * kMiB);
  ASSERT_TRUE(extents.has_value()) << extents.error().message;
  EXPECT_EQ(Total(*extents), 40 * kMiB);
  for (const ByteExtent& extent : *extents) {
    EXPECT_GE(extent.offset, kPartition.offset);
    EXPECT_LE(extent.end(), kPartition.end());
  }
  Check();
}

TEST_F(FileExtentsTest, WhatWeWriteThereDoesNotHurtTheFileSystem) {
  const auto extents = AllocateFile(disk_, kPartition, kName, 40 * kMiB);
  ASSERT_TRUE(extents.has_value()) << extents.error().message;
  const std::vector<char> noise(kMiB, '\x5a');
  const UniqueFd fd(::open(disk_.c_str(), O_WRONLY | O_CLOEXEC));
  for (const ByteExtent& extent : *extents) {
    for (uint64_t at = 0; at < extent.size; at += kMiB) {
      const size_t size = std::min<uint64_t>(kMiB, extent.size - at);
      ASSERT_EQ(::pwrite(fd.get(), noise.data(), size,
                         static_cast<off_t>(extent.offset + at)),
                static_cast<ssize_t>(size));
    }
  }
  Check();
  Run("debugfs -R 'dump /.bootstream-region out' fs &&"
      "test $(tr -d '\\0' < out | wc -c) = 0");
}

TEST_F(FileExtentsTest, FileThatIsThereGrowsAndKeepsItsPlace) {
  const auto first = AllocateFile(disk_, kPartition, kName, 20 * kMiB);
  ASSERT_TRUE(first.has_value());
  const auto second = AllocateFile(disk_, kPartition, kName, 30 * kMiB);
  ASSERT_TRUE(second.has_value()) << second.error().message;
  EXPECT_EQ(second->front().offset, first->front().offset);
  EXPECT_EQ(Total(*second), 30 * kMiB);
  const auto third = AllocateFile(disk_, kPartition, kName, 10 * kMiB);
  ASSERT_TRUE(third.has_value());
  EXPECT_EQ(*third, *second);
}

TEST_F(FileExtentsTest, FragmentedFileIsDecodedByBothAlike) {
  {
    auto mount = LoopMount::MountExt4(disk_, kPartition);
    ASSERT_TRUE(mount.has_value()) << mount.error().message;
    Run("cd " + mount->directory() +
        " && for i in $(seq 600); do head -c 65536 /dev/zero > f$i; done &&"
        "sync && for i in $(seq 1 2 600); do rm f$i; done");
    ASSERT_TRUE(mount->Unmount().has_value());
  }
  const auto extents = AllocateFile(disk_, kPartition, kName, 85 * kMiB);
  ASSERT_TRUE(extents.has_value()) << extents.error().message;
  EXPECT_GT(extents->size(), 3u);
  EXPECT_EQ(Total(*extents), 85 * kMiB);
  Check();
}

TEST_F(FileExtentsTest, FullFileSystemGetsItsSpaceBack) {
  const auto extents = AllocateFile(disk_, kPartition, kName, 200 * kMiB);
  ASSERT_FALSE(extents.has_value());
  EXPECT_EQ(extents.error().code, ErrorCode::kNoSpace);
  EXPECT_EQ(FileExtents(disk_, kPartition, kName).error().code,
            ErrorCode::kNotFound);
  EXPECT_TRUE(AllocateFile(disk_, kPartition, kName, 40 * kMiB).has_value());
}

TEST_F(FileExtentsTest, RemovedFileIsGone) {
  ASSERT_TRUE(AllocateFile(disk_, kPartition, kName, kMiB).has_value());
  ASSERT_TRUE(RemoveFile(disk_, kPartition, kName).has_value());
  EXPECT_EQ(FileExtents(disk_, kPartition, kName).error().code,
            ErrorCode::kNotFound);
  EXPECT_TRUE(RemoveFile(disk_, kPartition, kName).has_value());
  Check();
}

TEST_F(FileExtentsTest, FileWithAHoleIsBegunAnew) {
  {
    auto mount = LoopMount::MountExt4(disk_, kPartition);
    ASSERT_TRUE(mount.has_value());
    Run("cd " + mount->directory() +
        " && truncate -s 1M .bootstream-region &&"
        "fallocate -o 500k -l 100k .bootstream-region");
    ASSERT_TRUE(mount->Unmount().has_value());
  }
  const auto extents = FileExtents(disk_, kPartition, kName);
  ASSERT_TRUE(extents.has_value()) << extents.error().message;
  EXPECT_EQ(Total(*extents), 100u << 10);
  const auto whole = AllocateFile(disk_, kPartition, kName, 700u << 10);
  ASSERT_TRUE(whole.has_value()) << whole.error().message;
  EXPECT_EQ(Total(*whole), 700u << 10);
  Check();
}

TEST_F(FileExtentsTest, TrimmedFileKeepsWhatIsWanted) {
  const auto all = AllocateFile(disk_, kPartition, kName, 40 * kMiB);
  ASSERT_TRUE(all.has_value()) << all.error().message;
  std::vector<ByteExtent> kept;
  uint64_t bytes = 0;
  for (const ByteExtent& extent : *all) {
    const uint64_t from = (extent.offset + kMiB - 1) / kMiB * kMiB;
    for (uint64_t at = from; at + kMiB <= extent.end(); at += 2 * kMiB) {
      kept.push_back({at, kMiB / 4});
      bytes += kMiB / 4;
    }
  }
  std::ranges::sort(kept, {}, &ByteExtent::offset);
  const auto trimmed = TrimFile(disk_, kPartition, kName, kept);
  ASSERT_TRUE(trimmed.has_value()) << trimmed.error().message;
  EXPECT_EQ(Total(*trimmed), bytes);
  EXPECT_EQ(*FileExtents(disk_, kPartition, kName), *trimmed);
  auto sorted = *trimmed;
  std::ranges::sort(sorted, {}, &ByteExtent::offset);
  EXPECT_EQ(sorted, kept);
  Check();
}

TEST_F(FileExtentsTest, LinkInPlaceOfTheFileIsNotFollowed) {
  {
    auto mount = LoopMount::MountExt4(disk_, kPartition);
    ASSERT_TRUE(mount.has_value());
    Run("cd " + mount->directory() +
        " && ln -s lost+found/x .bootstream-region");
    ASSERT_TRUE(mount->Unmount().has_value());
  }
  EXPECT_FALSE(AllocateFile(disk_, kPartition, kName, kMiB).has_value());
}

TEST(WholeChunksTest, PartialChunksAreLeftOut) {
  constexpr uint64_t kChunk = 65536;
  const Grid grid{kChunk, 10 * kChunk + 100};
  const std::vector<ByteExtent> extents{
      {5 * kChunk + 1, 2 * kChunk},  // 6 only
      {kChunk, 2 * kChunk},          // 1, 2
      {3 * kChunk, 100},             // none
      {9 * kChunk, kChunk + 100}};   // 9; the short last one never
  EXPECT_EQ(WholeChunks(extents, grid),
            (std::vector<DiskChunk>{{6}, {1}, {2}, {9}}));
}

TEST(ToExtentsTest, ChunksAreSortedAndJoined) {
  EXPECT_EQ(ToExtents({{6}, {1}, {2}, {7}, {4}}),
            (std::vector<DiskExtent>{{1, 2}, {4, 1}, {6, 2}}));
}

}  // namespace
}  // namespace bootstream
