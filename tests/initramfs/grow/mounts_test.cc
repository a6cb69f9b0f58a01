#include "initramfs/grow/mounts.h"

#include <gtest/gtest.h>
#include <sys/sysmacros.h>

namespace bootstream {
namespace {

TEST(MountsTest, LinesAreRead) {
  const auto mounts = ParseMountInfo(
      "22 1 254:3 / / rw,relatime shared:1 - ext4 /dev/vda3 rw\n"
      "23 22 0:31 /@ /home rw shared:2 master:1 - btrfs /dev/vdb1 rw,ssd\n");
  ASSERT_EQ(mounts.size(), 2u);
  EXPECT_EQ(mounts[0].device, makedev(254, 3));
  EXPECT_EQ(mounts[0].point, "/");
  EXPECT_EQ(mounts[0].type, "ext4");
  EXPECT_EQ(mounts[0].source, "/dev/vda3");
  EXPECT_EQ(mounts[1].device, makedev(0, 31));
  EXPECT_EQ(mounts[1].type, "btrfs");
}

TEST(MountsTest, BlanksAreWrittenInOctal) {
  const auto mounts = ParseMountInfo(
      "22 1 8:1 / /a\\040b\\134 rw - ext4 /dev/mapper/a\\040b rw\n");
  ASSERT_EQ(mounts.size(), 1u);
  EXPECT_EQ(mounts[0].point, "/a b\\");
  EXPECT_EQ(mounts[0].source, "/dev/mapper/a b");
}

TEST(MountsTest, WhatIsNoLineIsLeftOut) {
  EXPECT_TRUE(ParseMountInfo("").empty());
  EXPECT_TRUE(ParseMountInfo("nonsense\n\n22 1 8:1 / /x rw -\n").empty());
  EXPECT_EQ(ParseMountInfo("22 1 8:1 / /\\0 rw - ext4 /dev/x rw").size(), 1u);
}

TEST(MountsTest, WeHaveSomeOurselves) {
  const auto mounts = ReadMounts();
  ASSERT_TRUE(mounts.has_value()) << mounts.error().message;
  EXPECT_FALSE(mounts->empty());
}

}  // namespace
}  // namespace bootstream
