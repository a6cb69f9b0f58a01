#include "initramfs/system/mounts.h"

#include <gtest/gtest.h>
#include <sys/sysmacros.h>

namespace bootstream {
namespace {

constexpr char kMounts[] =
    "22 28 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
    "28 1 0:25 /@rootfs / rw,relatime shared:1 - btrfs /dev/dm-2 rw,subvol\n"
    "40 28 253:1 / /boot rw - ext4 /dev/mapper/bootstream2 rw\n"
    "41 40 253:0 / /boot/efi rw shared:9 master:2 - vfat /dev/dm-0 rw\n"
    "42 28 8:1 / /mnt/a\\040b rw - xfs /dev/sda1 rw\n"
    "broken\n";

TEST(MountsTest, LinesAreRead) {
  const auto mounts = ParseMounts(kMounts);
  ASSERT_EQ(mounts.size(), 5U);
  EXPECT_EQ(mounts[1].where, "/");
  EXPECT_EQ(mounts[2].device, makedev(253, 1));
  EXPECT_EQ(mounts[1].root, "/@rootfs");
  EXPECT_EQ(mounts[1].type, "btrfs");
  EXPECT_EQ(mounts[3].source, "/dev/dm-0");
  EXPECT_EQ(mounts[4].where, "/mnt/a b");
}

TEST(MountsTest, WhatIsNoLineIsLeftOut) {
  EXPECT_TRUE(ParseMounts("").empty());
  EXPECT_TRUE(ParseMounts("nonsense\n\n22 1 8:1 / /x rw -\n").empty());
  EXPECT_EQ(ParseMounts("22 1 8:1 / /\\0 rw - ext4 /dev/x rw").size(), 1U);
}

TEST(MountsTest, WeHaveSomeOurselves) {
  const auto mounts = ReadMounts();
  ASSERT_TRUE(mounts.has_value()) << mounts.error().message;
  EXPECT_FALSE(mounts->empty());
}

TEST(MountsTest, TheDeepestMountHasThePath) {
  const auto mounts = ParseMounts(kMounts);
  EXPECT_EQ(MountOf(mounts, "/boot/grub/grub.cfg")->where, "/boot");
  EXPECT_EQ(MountOf(mounts, "/boot")->where, "/boot");
  EXPECT_EQ(MountOf(mounts, "/bootx")->where, "/");
  EXPECT_EQ(MountOf(mounts, "/boot/efi/EFI")->where, "/boot/efi");
  EXPECT_EQ(MountOf({}, "/"), nullptr);
}

TEST(MountsTest, PathsAreAsTheFileSystemCallsThem) {
  const auto mounts = ParseMounts(kMounts);
  const MountPoint& root = mounts[1];
  const MountPoint& boot = mounts[2];
  EXPECT_EQ(PathInside(boot, "/boot"), "/");
  EXPECT_EQ(PathInside(boot, "/boot/grub"), "/grub");
  EXPECT_EQ(PathInside(root, "/usr/share"), "/@rootfs/usr/share");
  EXPECT_EQ(PathOutside(root, "/@rootfs/usr/share"), "/usr/share");
  EXPECT_EQ(PathOutside(root, "/usr/share"), "");
  EXPECT_EQ(PathOutside(root, "/@rootfs2/usr"), "");
  EXPECT_EQ(PathOutside(boot, "/grub/x"), "/boot/grub/x");
}

}  // namespace
}  // namespace bootstream
