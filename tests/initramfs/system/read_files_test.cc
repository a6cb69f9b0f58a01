#include "initramfs/system/read_files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace bootstream {
namespace {

class ReadFilesTest : public ::testing::Test {
 protected:
  ~ReadFilesTest() override { std::filesystem::remove_all(root_); }
  void Put(const std::string& name) {
    const std::string path = root_ + name;
    std::filesystem::create_directories(
        std::filesystem::path(path).parent_path());
    std::ofstream(path) << "content";
  }

  std::string root_ = ::mkdtemp(std::string("/tmp/read-files-XXXXXX").data());
};

TEST_F(ReadFilesTest, WhatIsMissingOrNoFileIsPassedOver) {
  Put("/a/b/file");
  // It would be waited for.
  ASSERT_EQ(::mkfifo((root_ + "/a/pipe").c_str(), 0600), 0);
  std::filesystem::create_symlink("nowhere", root_ + "/a/link");
  const auto status =
      ReadFiles(root_, {"/a", "/none", "/a/pipe"}, std::nullopt);
  EXPECT_TRUE(status) << status.error().message;
}

TEST_F(ReadFilesTest, ARootThatIsNoneIsSaid) {
  const auto status = ReadFiles(root_ + "/none", {"/file"}, std::nullopt);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kIo);
}

}  // namespace
}  // namespace bootstream
