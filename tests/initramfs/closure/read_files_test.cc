#include "initramfs/closure/read_files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace bootstream {
namespace {

Deadline Soon() {
  return std::chrono::steady_clock::now() + std::chrono::milliseconds(100);
}

class ReadFilesTest : public ::testing::Test {
 protected:
  ~ReadFilesTest() override { std::filesystem::remove_all(root_); }

  std::string root_ = ::mkdtemp(std::string("/tmp/read-files-XXXXXX").data());
};

TEST_F(ReadFilesTest, FilesAndWhatLiesInFolders) {
  std::filesystem::create_directories(root_ + "/a/b");
  std::ofstream(root_ + "/a/b/file") << "content";
  std::ofstream(root_ + "/one") << "content";
  // It would be waited for.
  ASSERT_EQ(::mkfifo((root_ + "/a/pipe").c_str(), 0600), 0);
  std::filesystem::create_symlink("nowhere", root_ + "/a/link");
  const auto status = ReadFiles({root_ + "/a", root_ + "/one"}, std::nullopt);
  EXPECT_TRUE(status) << status.error().message;
}

TEST_F(ReadFilesTest, WhatDoesNotComeIsGivenUp) {
  // Opening it waits for a writer.
  ASSERT_EQ(::mkfifo((root_ + "/late").c_str(), 0600), 0);
  const auto status = ReadFiles({root_ + "/late"}, Soon());
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kUnavailable);
}

TEST_F(ReadFilesTest, WhatCannotBeReadIsSaid) {
  EXPECT_FALSE(ReadFiles({root_ + "/none"}, std::nullopt));
}

}  // namespace
}  // namespace bootstream
