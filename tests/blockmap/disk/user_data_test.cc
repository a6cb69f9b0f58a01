#include "blockmap/disk/user_data.h"

#include "tests/blockmap/disk/disk_fixture.h"

namespace bootstream {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr ByteExtent kFirst{kMiB, 32 * kMiB};
constexpr ByteExtent kSecond{40 * kMiB, 32 * kMiB};

class UserDataTest : public DiskTest {
 protected:
  void SetUp() override {
    DiskTest::SetUp();
    disk_ = MakeFile("disk", 80 * kMiB);
    Run("mkdir a b");
  }
  // Make the file systems from the folders `a` and `b`.
  void Make() {
    Run("mkfs.ext4 -q -F -d a -E offset=1048576 disk 32M &&"
        "mkfs.ext4 -q -F -d b -E offset=41943040 disk 32M");
  }
  UserData Measure() {
    const ByteExtent both[] = {kFirst, kSecond};
    const auto measured = MeasureUserData(disk_, both);
    EXPECT_TRUE(measured.has_value()) << measured.error().message;
    return measured ? *measured : UserData{};
  }
  std::string disk_;
};

TEST_F(UserDataTest, ASystemWithoutFoldersHasNone) {
  Run("mkdir a/etc a/home && head -c 100000 /dev/zero >a/etc/big");
  Make();
  EXPECT_EQ(Measure().bytes, 0U);
}

TEST_F(UserDataTest, FilesInHomesCountInWholeBlocks) {
  Run("mkdir -p a/etc a/home/ann/deep/er a/home/bob a/home/lost+found a/srv &&"
      "head -c 5000 /dev/urandom >a/home/ann/deep/er/x &&"
      "head -c 4096 /dev/urandom >a/home/bob/y &&"
      "ln a/home/bob/y a/home/bob/again && ln -s /srv a/home/bob/link &&"
      "head -c 900000 /dev/urandom >a/srv/z && ln -s ann a/home/also");
  Make();
  // Two files, four directories.
  EXPECT_EQ(Measure().bytes, (2 + 1 + 4) * uint64_t{4096});
  EXPECT_EQ(Measure().files, 7U);  // the link, too
}

TEST_F(UserDataTest, AFileSystemOfItsOwnForHomeIsKnownByItsUsers) {
  Run("mkdir -p a/etc a/home b/ann b/stuff b/lost+found &&"
      "echo 'ann:x:1000:1000::/home/ann:/bin/sh' >a/etc/passwd &&"
      "head -c 8192 /dev/urandom >b/ann/x");
  Make();
  EXPECT_EQ(Measure().bytes, (2 + 2) * uint64_t{4096});
  // Nobody's: data of another kind.
  Run("echo 'root:x:0:0::/root:/bin/sh' >a/etc/passwd");
  Make();
  EXPECT_EQ(Measure().bytes, 0U);
}

TEST_F(UserDataTest, FoldersOfWindowsUsersCount) {
  Run("mkdir -p b/Users/Eve && head -c 1 /dev/zero >b/Users/Eve/x");
  Make();
  EXPECT_EQ(Measure().bytes, 2 * uint64_t{4096});
}

TEST_F(UserDataTest, WhatIsNoExtIsAnError) {
  const ByteExtent none[] = {kFirst};
  EXPECT_FALSE(MeasureUserData(disk_, none).has_value());
}

}  // namespace
}  // namespace bootstream
