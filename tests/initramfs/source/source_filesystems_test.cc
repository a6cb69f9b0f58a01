#include "initramfs/source/source_filesystems.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace bootstream {
namespace {

// A disk file with what the commands in it make.
class SourceFilesystemsTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/source-filesystems-XXXXXX";
    const int fd = mkstemp(name);
    ASSERT_GE(fd, 0);
    close(fd);
    path_ = name;
    std::filesystem::resize_file(path_, uint64_t{64} << 20);
  }
  void TearDown() override { std::filesystem::remove(path_); }
  void Do(const std::string& command) {
    const std::string line =
        "PATH=$PATH:/usr/sbin:/sbin; disk=" + path_ + "; " + command;
    ASSERT_EQ(std::system(line.c_str()), 0) << line;
  }
  std::string path_;
};

TEST_F(SourceFilesystemsTest, EachPartitionIsTold) {
  Do("printf 'label: gpt\\n1 : start=2048, size=32768\\n3 : start=34816, "
     "size=32768\\n4 : start=67584, size=8192\\n5: start=75776, size=2048\\n' "
     "| sfdisk -q $disk");
  Do("mkfs.ext4 -q -L old -E offset=1048576 $disk 16M 2>/dev/null");
  Do("mkfs.vfat --offset 34816 -n FAT $disk 16384 >/dev/null");
  Do("dd if=/dev/zero of=$disk.swap bs=4M count=1 status=none && "
     "mkswap -q $disk.swap && dd if=$disk.swap of=$disk bs=1M seek=33 "
     "conv=notrunc status=none && rm $disk.swap");
  const auto found = FindSourceFilesystems(path_);
  ASSERT_TRUE(found) << found.error().message;
  ASSERT_EQ(found->size(), 4u);
  EXPECT_EQ(found->at(0).partition, 1);
  EXPECT_EQ(found->at(0).type, "ext4");
  EXPECT_EQ(found->at(0).label, "old");
  EXPECT_EQ(found->at(0).offset_bytes, 1u << 20);
  EXPECT_EQ(found->at(0).size_bytes, 16u << 20);
  EXPECT_EQ(found->at(1).partition, 3);
  EXPECT_EQ(found->at(1).type, "vfat");
  EXPECT_EQ(Describe(found->at(1)), "partition 3 (vfat, 'FAT')");
  EXPECT_EQ(found->at(2).type, "swap");
  EXPECT_EQ(found->at(3).type, "");
}

TEST_F(SourceFilesystemsTest, ADiskWithoutATableIsOneFileSystem) {
  Do("mkfs.ext4 -q $disk");
  const auto found = FindSourceFilesystems(path_);
  ASSERT_TRUE(found) << found.error().message;
  ASSERT_EQ(found->size(), 1u);
  EXPECT_EQ(found->at(0).partition, 0);
  EXPECT_EQ(found->at(0).type, "ext4");
  EXPECT_EQ(found->at(0).size_bytes, 64u << 20);
}

SourceFilesystem OfType(const std::string& type) {
  SourceFilesystem filesystem;
  filesystem.partition = 2;
  filesystem.type = type;
  return filesystem;
}

TEST(HowToMountTest, NothingReplaysAJournal) {
  EXPECT_EQ(HowToMount(OfType("ext4"))->options, "noload");
  EXPECT_EQ(HowToMount(OfType("ext3"))->options, "noload");
  EXPECT_EQ(HowToMount(OfType("xfs"))->options, "norecovery,nouuid");
  EXPECT_EQ(HowToMount(OfType("btrfs"))->options, "rescue=nologreplay");
  EXPECT_EQ(HowToMount(OfType("ntfs"))->type, "ntfs3");
  EXPECT_EQ(HowToMount(OfType("ntfs"))->helper, "ntfs-3g");
}

TEST(HowToMountTest, WhatCannotBeMountedIsCalledByItsName) {
  const auto said = [](const std::string& type) {
    const auto way = HowToMount(OfType(type));
    EXPECT_FALSE(way);
    return way ? std::string() : way.error().message;
  };
  EXPECT_EQ(said("crypto_LUKS"),
            "partition 2 (crypto_LUKS) is encrypted (LUKS)");
  EXPECT_NE(said("BitLocker").find("encrypted"), std::string::npos);
  EXPECT_NE(said("LVM2_member").find("LVM"), std::string::npos);
  EXPECT_NE(said("").find("nothing"), std::string::npos);
  EXPECT_NE(said("zfs_member").find("not mounted here"), std::string::npos);
}

}  // namespace
}  // namespace bootstream
