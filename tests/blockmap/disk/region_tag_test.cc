#include "blockmap/disk/region_tag.h"

#include <fcntl.h>
#include <unistd.h>

#include "blockmap/base/coding.h"
#include "blockmap/base/unique_fd.h"
#include "blockmap/disk/file_extents.h"
#include "blockmap/disk/loop_mount.h"
#include "blockmap/map/sealed.h"
#include "tests/blockmap/disk/disk_fixture.h"

namespace bootstream {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr ByteExtent kPartition{kMiB, 64 * kMiB};
constexpr char kName[] = ".bootstream-region";

RegionTag SomeTag(uint8_t id = 0x42) {
  RegionTag tag{kChunkBytesMax, {}, {DiskChunk{7}, DiskChunk{1}}};
  tag.migration_id.fill(std::byte{id});
  return tag;
}

void ExpectSame(const Result<RegionTag>& found, const RegionTag& tag) {
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_EQ(found->chunk_bytes, tag.chunk_bytes);
  EXPECT_EQ(found->migration_id, tag.migration_id);
  EXPECT_EQ(found->superblock_chunks, tag.superblock_chunks);
}

ErrorCode CodeOf(std::span<const std::byte> bytes) {
  const auto tag = DecodeRegionTag(bytes);
  EXPECT_FALSE(tag.has_value());
  return tag ? ErrorCode::kInvalid : tag.error().code;
}

TEST(RegionTagTest, IsReadAsItWasWritten) {
  ExpectSame(DecodeRegionTag(EncodeRegionTag(SomeTag())), SomeTag());
}

TEST(RegionTagTest, BlankIsNoneAndEveryChangedByteIsNoticed) {
  EXPECT_EQ(CodeOf({}), ErrorCode::kNotFound);
  EXPECT_EQ(CodeOf(std::vector<std::byte>(kRegionTagBytes)),
            ErrorCode::kNotFound);
  const auto good = EncodeRegionTag(SomeTag());
  for (size_t at = 0; at < good.size(); ++at) {
    auto bad = good;
    bad[at] ^= std::byte{1};
    EXPECT_EQ(CodeOf(bad), at < 8 ? ErrorCode::kNotFound : ErrorCode::kCorrupt);
  }
  for (size_t size = 8; size < good.size(); ++size) {
    const auto code = CodeOf(std::span(good).first(size));
    EXPECT_TRUE(code == ErrorCode::kCorrupt || size < 12) << size;
  }
}

TEST(RegionTagTest, WhatMakesNoSenseOrIsNewerIsRefused) {
  auto bytes = EncodeRegionTag(SomeTag());
  StoreLe<uint32_t>(std::span(bytes).subspan<12, 4>(), 4096);
  Seal(bytes);
  EXPECT_EQ(CodeOf(bytes), ErrorCode::kCorrupt);
  const auto good = EncodeRegionTag(SomeTag());
  std::vector<std::byte> longer(good.begin(), good.end());
  longer.resize(longer.size() + 8);
  Seal(longer);
  EXPECT_EQ(CodeOf(longer), ErrorCode::kCorrupt);
  StoreLe<uint64_t>(std::span(longer).subspan<16, 8>(), 1);
  Seal(longer);
  EXPECT_EQ(CodeOf(longer), ErrorCode::kUnsupported);
}

class RegionTagFileTest : public DiskTest {
 protected:
  void SetUp() override {
    DiskTest::SetUp();
    if (::geteuid() != 0 || ::access("/dev/loop-control", W_OK) != 0) {
      GTEST_SKIP() << "needs root and loop devices";
    }
    disk_ = MakeFile("disk", 66 * kMiB);
  }
  Result<RegionTag> Read() const {
    return ReadRegionTag(disk_, kPartition, kName);
  }
  Status Write(const RegionTag& tag) const {
    return WriteRegionTag(disk_, kPartition, kName, tag);
  }
  std::string disk_;
};

// In the inode, in a block of its own, with no journal, with data in inodes.
TEST_F(RegionTagFileTest, IsFoundOnAnyExt4AndBlankWhereSpaceIsTakenAnew) {
  for (const char* options :
       {"", "-I 128", "-I 512 -b 1024", "-O ^has_journal,^ext_attr",
        "-O inline_data,ea_inode", "-O ^metadata_csum,^64bit -I 128"}) {
    SCOPED_TRACE(options);
    Run("mkfs.ext4 -q -F -E offset=1048576 " + std::string(options) +
        " disk 64M");
    EXPECT_EQ(Read().error().code, ErrorCode::kNotFound);
    const auto first = AllocateFile(disk_, kPartition, kName, 20 * kMiB);
    ASSERT_TRUE(first.has_value()) << first.error().message;
    EXPECT_EQ(Read().error().code, ErrorCode::kNotFound);
    for (const uint8_t id : {1, 2}) {
      const Status written = Write(SomeTag(id));
      ASSERT_TRUE(written.has_value()) << written.error().message;
      ExpectSame(Read(), SomeTag(id));
    }
    EXPECT_EQ(*FileExtents(disk_, kPartition, kName), *first);
    ASSERT_TRUE(AllocateFile(disk_, kPartition, kName, 20 * kMiB).has_value());
    EXPECT_EQ(Read().error().code, ErrorCode::kNotFound);
    ASSERT_TRUE(Write(SomeTag()).has_value());
    Run("dd if=disk of=fs bs=1M skip=1 count=64 && e2fsck -fn fs");
    ASSERT_TRUE(RemoveFile(disk_, kPartition, kName).has_value());
    EXPECT_EQ(Read().error().code, ErrorCode::kNotFound);
  }
}

TEST_F(RegionTagFileTest, HasItsRoomOnAFileSystemThatIsFull) {
  Run("mkfs.ext4 -q -F -E offset=1048576 -I 128 -m 0 disk 64M");
  ASSERT_TRUE(AllocateAll(disk_, kPartition, kName).has_value());
  const Status written = Write(SomeTag());
  ASSERT_TRUE(written.has_value()) << written.error().message;
  ExpectSame(Read(), SomeTag());
}

TEST_F(RegionTagFileTest, NeedsAFile) {
  Run("mkfs.ext4 -q -F -E offset=1048576 disk 64M");
  EXPECT_FALSE(Write(SomeTag()).has_value());
  EXPECT_EQ(Read().error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace bootstream
