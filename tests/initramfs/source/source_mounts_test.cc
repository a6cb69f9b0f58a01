#include "initramfs/source/source_mounts.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "blockmap/base/unique_fd.h"

namespace bootstream {
namespace {

namespace fs = std::filesystem;

// File systems in disk files, for a kernel with loop devices, in a mount
// namespace of our own.
class SourceMountsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0 || ::access("/dev/loop-control", F_OK) != 0) {
      GTEST_SKIP() << "not root, or the kernel has no loop devices";
    }
    char name[] = "/dev/shm/source-mounts-XXXXXX";
    top_ = mkdtemp(name);
    ASSERT_EQ(::unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    ASSERT_EQ(::mount("tmpfs", "/run", "tmpfs", 0, nullptr), 0);
  }
  void TearDown() override {
    if (top_.empty()) return;
    auto mounts = Load();
    const Status undone = mounts.UnmountAll();
    EXPECT_TRUE(undone) << undone.error().message;
    EXPECT_FALSE(fs::exists(Record()));
    EXPECT_TRUE(!fs::exists("/run/bootstream/udev") ||
                fs::is_empty("/run/bootstream/udev"));
    ::umount2("/run", MNT_DETACH);
    fs::remove_all(top_);
  }

  std::string Record() const { return top_ + "/record"; }
  SourceMounts Load() {
    auto mounts = SourceMounts::Load(Record());
    EXPECT_TRUE(mounts) << mounts.error().message;
    return *mounts;
  }
  static bool Do(const std::string& command) {
    return std::system(
               ("PATH=$PATH:/usr/sbin:/sbin; (" + command + ") >/dev/null 2>&1")
                   .c_str()) == 0;
  }
  // A disk file that is all one file system; `make` is told it as $disk.
  std::string Make(const std::string& make, uint64_t mib) {
    std::string disk = top_ + "/disk" + std::to_string(++disks_);
    std::ofstream(disk).close();
    fs::resize_file(disk, mib << 20);
    EXPECT_TRUE(Do("disk=" + disk + "; " + make)) << make;
    return disk;
  }
  Status Mount(const std::string& disk, const std::string& directory) {
    const auto found = FindSourceFilesystems(disk);
    if (!found) return found.error();
    auto mounts = Load();
    return mounts.Mount(disk, found->at(0), top_ + "/" + directory);
  }
  bool IsReadOnly(const std::string& directory) const {
    struct statvfs info {};
    const std::string path = top_ + "/" + directory;
    return ::statvfs(path.c_str(), &info) == 0 &&
           (info.f_flag & ST_RDONLY) != 0;
  }

  std::string top_;
  int disks_ = 0;
};

TEST_F(SourceMountsTest, AJournalIsNotReplayed) {
  const std::string disk = Make("mkfs.ext4 -q $disk", 32);
  ASSERT_TRUE(Do("debugfs -w -R 'feature needs_recovery' " + disk));
  const Status mounted = Mount(disk, "a");
  ASSERT_TRUE(mounted) << mounted.error().message;
  EXPECT_TRUE(IsReadOnly("a"));
  EXPECT_TRUE(fs::exists(top_ + "/a/lost+found"));
  EXPECT_TRUE(Do("dumpe2fs -h " + disk + " | grep needs_recovery"));
}

TEST_F(SourceMountsTest, OneOfTheSameIdMayBeMounted) {
  const std::string disk = Make("mkfs.xfs -q $disk", 320);
  const std::string copy = Make("cp --sparse=always " + disk + " $disk", 1);
  for (const auto& [which, where] : {std::pair(disk, "a"), {copy, "b"}}) {
    const Status mounted = Mount(which, where);
    if (!mounted && mounted.error().code == ErrorCode::kUnsupported) {
      GTEST_SKIP() << mounted.error().message;
    }
    ASSERT_TRUE(mounted) << mounted.error().message;
    EXPECT_TRUE(IsReadOnly(where));
  }
}

TEST_F(SourceMountsTest, OneBtrfsOfAnIdIsEnough) {
  const std::string disk = Make("mkfs.btrfs -q $disk", 128);
  const std::string copy = Make("cp --sparse=always " + disk + " $disk", 1);
  const Status mounted = Mount(disk, "a");
  if (!mounted && mounted.error().code == ErrorCode::kUnsupported) {
    GTEST_SKIP() << mounted.error().message;
  }
  ASSERT_TRUE(mounted) << mounted.error().message;
  EXPECT_TRUE(IsReadOnly("a"));
  const Status second = Mount(copy, "b");
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kRefused);
  EXPECT_NE(second.error().message.find("same id"), std::string::npos);
}

TEST_F(SourceMountsTest, NtfsIsMountedByWhoCan) {
  if (!Do("command -v mkntfs ntfs-3g") || ::access("/dev/fuse", F_OK) != 0) {
    GTEST_SKIP() << "no ntfs-3g";
  }
  const std::string disk = Make("mkntfs -q -F $disk", 32);
  const Status mounted = Mount(disk, "a");
  ASSERT_TRUE(mounted) << mounted.error().message;
  EXPECT_TRUE(IsReadOnly("a"));
}

TEST_F(SourceMountsTest, WhatIsInUseStaysAndIsRemembered) {
  ASSERT_TRUE(Mount(Make("mkfs.ext4 -q $disk", 32), "deep/a"));
  ASSERT_TRUE(Mount(Make("mkfs.ext4 -q $disk", 32), "b"));
  const std::string inside = top_ + "/deep/a/lost+found";
  UniqueFd used(::open(inside.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(used);
  auto mounts = Load();
  const Status undone = mounts.UnmountAll();
  ASSERT_FALSE(undone);
  EXPECT_EQ(undone.error().code, ErrorCode::kRefused);
  ASSERT_EQ(Load().mounts().size(), 1u);
  EXPECT_EQ(Load().mounts()[0].directory, top_ + "/deep/a");
  EXPECT_FALSE(fs::exists(top_ + "/b"));
}

TEST_F(SourceMountsTest, WhatSomebodyElseUnmountsOrMountsThereIsLeftAlone) {
  fs::create_directory(top_ + "/a");
  ASSERT_TRUE(Mount(Make("mkfs.ext4 -q $disk", 32), "a"));
  ASSERT_EQ(::umount((top_ + "/a").c_str()), 0);
  ASSERT_EQ(::mount("tmpfs", (top_ + "/a").c_str(), "tmpfs", 0, nullptr), 0);
  auto mounts = Load();
  ASSERT_TRUE(mounts.UnmountAll());
  ASSERT_EQ(::umount((top_ + "/a").c_str()), 0);
  EXPECT_TRUE(fs::exists(top_ + "/a"));
}

TEST_F(SourceMountsTest, WhatCannotBeMountedLeavesNothing) {
  const std::string disk = Make("mkfs.ext4 -q $disk", 32);
  auto mounts = Load();
  SourceFilesystem wrong;
  wrong.type = "xfs";
  wrong.size_bytes = uint64_t{32} << 20;
  EXPECT_FALSE(mounts.Mount(disk, wrong, top_ + "/a"));
  EXPECT_FALSE(fs::exists(top_ + "/a"));
  EXPECT_FALSE(fs::exists(Record()));
  EXPECT_FALSE(Mount(Make("mkswap $disk", 1), "a"));
}

TEST_F(SourceMountsTest, ARecordThatIsNotOursIsNotFollowed) {
  std::ofstream(Record()) << "{\"nonsense\": 1}";
  EXPECT_FALSE(SourceMounts::Load(Record()));
  std::ofstream(Record()) << "[{\"directory\": 3}]";
  EXPECT_FALSE(SourceMounts::Load(Record()));
  fs::remove(Record());
}

}  // namespace
}  // namespace bootstream
