#include "blockmap/disk/ext_space.h"

#include "blockmap/disk/file_extents.h"
#include "blockmap/disk/used_extents.h"
#include "tests/blockmap/disk/disk_fixture.h"

namespace bootstream {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr ByteExtent kPartition{3 * kMiB, 64 * kMiB};
constexpr char kFs[] = "'disk?offset=3145728'";

class ExtSpaceTest : public DiskTest {
 protected:
  // A disk with a file system that was made by `make`, and debugfs requests.
  std::string MakeDisk(const std::string& make,
                       const std::string& requests = {}) {
    std::string disk = MakeFile("disk", kPartition.end() + 5 * kMiB);
    Run(make + " -q -F -E offset=3145728 disk 64M");
    if (!requests.empty()) {
      Run("printf '" + requests + "' | debugfs -w -f - " + kFs);
    }
    return disk;
  }
  ExtSpace SpaceOf(const std::string& disk) {
    auto space = ReadExtSpace(disk, kPartition, kRegionFileName);
    EXPECT_TRUE(space.has_value()) << space.error().message;
    return space ? *space : ExtSpace{};
  }
};

TEST_F(ExtSpaceTest, FreeAndUsedAreAllThereIs) {
  for (const char* make :
       {"mkfs.ext4 -b 4096", "mkfs.ext4 -b 1024",
        "mkfs.ext4 -O bigalloc -C 65536", "mkfs.ext4 -g 4096"}) {
    const std::string disk = MakeDisk(make);
    const ExtSpace space = SpaceOf(disk);
    const auto used = UsedExtents(disk, kPartition);
    ASSERT_TRUE(used.has_value());
    uint64_t total = space.free_bytes();
    for (const ByteExtent& extent : *used) total += extent.size;
    EXPECT_EQ(total, kPartition.size) << make;
    EXPECT_EQ(space.obstacle, "") << make;
    EXPECT_GT(space.free_bytes(), 50 * kMiB) << make;
    EXPECT_GE(space.reserve_bytes, kPartition.size / 50) << make;
    EXPECT_LT(space.reserve_bytes, 8 * kMiB) << make;
  }
}

TEST_F(ExtSpaceTest, FileThatIsThereIsCountedByItself) {
  const std::string disk = MakeDisk("mkfs.ext4 -b 4096");
  Run(std::string("head -c 5000000 /dev/urandom > file &&"
                  "debugfs -w -R 'write file .bootstream-region' ") +
      kFs);
  const ExtSpace space = SpaceOf(disk);
  EXPECT_EQ(space.obstacle, "");
  EXPECT_EQ(space.file_bytes(), (5000000u + 4095) / 4096 * 4096);
}

TEST_F(ExtSpaceTest, WhatKeepsAFileFromBeingMadeIsNamed) {
  struct Case {
    const char* requests;
    const char* words;
  };
  for (const Case& one : {
           Case{"feature read-only\n", "read-only"},
           Case{"ssv journal_inum 0\nssv journal_dev 0x801\n", "journal"},
           Case{"sif / flags 0x80010\n", "root directory"},
           Case{"mkdir .bootstream-region\n", "not ours"},
           Case{"symlink .bootstream-region lost+found\n", "not ours"},
           Case{"ssv free_inodes_count 0\n", "inode"},
           Case{"feature casefold\n", "features"},
       }) {
    const ExtSpace space = SpaceOf(MakeDisk("mkfs.ext4", one.requests));
    EXPECT_NE(space.obstacle.find(one.words), std::string::npos)
        << one.requests << ": " << space.obstacle;
  }
}

TEST_F(ExtSpaceTest, FileWithAHoleCountsAsWhatItHas) {
  const std::string disk = MakeDisk("mkfs.ext4 -b 4096");
  Run(std::string("head -c 5000000 /dev/urandom > file &&"
                  "printf 'write file .bootstream-region\n"
                  "sif .bootstream-region size 9000000000\n' |"
                  "debugfs -w -f - ") +
      kFs);
  const ExtSpace space = SpaceOf(disk);
  EXPECT_EQ(space.obstacle, "");
  EXPECT_EQ(space.file_bytes(), 5001216u);
}

TEST_F(ExtSpaceTest, NoExtFileSystemIsUnsupported) {
  const std::string disk = MakeFile("disk", kPartition.end());
  const auto space = ReadExtSpace(disk, kPartition, kRegionFileName);
  ASSERT_FALSE(space.has_value());
  EXPECT_EQ(space.error().code, ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace bootstream
