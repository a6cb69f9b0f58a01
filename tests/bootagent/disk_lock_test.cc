#include "bootagent/disk_lock.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace bootstream {
namespace {

class DiskLockTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "disk-lock-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    disk_ = name + "/disk";
    std::ofstream(disk_).put('\0');
    std::filesystem::resize_file(disk_, 1 << 20);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string directory_;
  std::string disk_;
};

TEST_F(DiskLockTest, SecondOneWhoWritesIsRefused) {
  const auto first = OpenLocked(disk_, OpenMode::kReadWrite);
  ASSERT_TRUE(first.has_value()) << first.error().message;
  const auto second = OpenLocked(disk_, OpenMode::kReadWrite);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, ErrorCode::kRefused);
}

TEST_F(DiskLockTest, NobodyLooksAtADiskThatIsBeingChanged) {
  const auto writer = OpenLocked(disk_, OpenMode::kReadWrite);
  ASSERT_TRUE(writer.has_value()) << writer.error().message;
  const auto reader = OpenLocked(disk_, OpenMode::kReadOnly);
  ASSERT_FALSE(reader.has_value());
  EXPECT_EQ(reader.error().code, ErrorCode::kRefused);
}

TEST_F(DiskLockTest, ManyMayReadAndThenNobodyWrites) {
  {
    const auto first = OpenLocked(disk_, OpenMode::kReadOnly);
    const auto second = OpenLocked(disk_, OpenMode::kReadOnly);
    EXPECT_TRUE(first.has_value());
    EXPECT_TRUE(second.has_value());
    EXPECT_FALSE(OpenLocked(disk_, OpenMode::kReadWrite).has_value());
  }
  EXPECT_TRUE(OpenLocked(disk_, OpenMode::kReadWrite).has_value());
}

}  // namespace
}  // namespace bootstream
