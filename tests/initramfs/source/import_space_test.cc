#include "initramfs/source/import_space.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace bootstream {
namespace {

TEST(ImportSpaceTest, StatsAreReadInWholeBlocks) {
  EXPECT_EQ(BytesInStats("Number of files: 9 (reg: 3)\n"
                         "Number of regular files transferred: 2\n"
                         "Total file size: 999 bytes\n"
                         "Total transferred file size: 5000 bytes\n"),
            5000U + 2 * 4096);
  EXPECT_FALSE(BytesInStats("nothing").has_value());
  EXPECT_FALSE(BytesInStats("Number of regular files transferred: x\n"
                            "Total transferred file size: 1 bytes\n")
                   .has_value());
}

class CheckImportSpaceTest : public testing::Test {
 protected:
  CheckImportSpaceTest() : top_("/dev/shm/bootstream-test-XXXXXX") {
    EXPECT_NE(::mkdtemp(top_.data()), nullptr);
    std::filesystem::create_directory(top_ + "/from");
  }
  ~CheckImportSpaceTest() override { std::filesystem::remove_all(top_); }
  // A file that takes no room and would take so much.
  void MakeFile(uint64_t size) {
    std::ofstream(top_ + "/from/file").flush();
    std::filesystem::resize_file(top_ + "/from/file", size);
  }
  Status Check() {
    ImportFolder folder;
    folder.from = top_ + "/from";
    folder.to = top_ + "/to/there";
    return CheckImportSpace({folder}, std::nullopt);
  }
  std::string top_;
};

TEST_F(CheckImportSpaceTest, WhatDoesNotFitIsRefusedWithByHowMuch) {
  if (std::system("rsync --version >/dev/null 2>&1") != 0) GTEST_SKIP();
  MakeFile(5000);
  EXPECT_TRUE(Check().has_value());
  MakeFile(uint64_t{1} << 42);
  const Status status = Check();
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, ErrorCode::kRefused);
  EXPECT_NE(status.error().message.find("are missing"), std::string::npos)
      << status.error().message;
  EXPECT_FALSE(std::filesystem::exists(top_ + "/to"));
}

TEST_F(CheckImportSpaceTest, WhatIsThereAlreadyDoesNotCount) {
  if (std::system("rsync --version >/dev/null 2>&1") != 0) GTEST_SKIP();
  MakeFile(uint64_t{1} << 42);
  std::filesystem::create_directories(top_ + "/to/there");
  std::filesystem::resize_file(
      (std::ofstream(top_ + "/to/there/file").flush(), top_ + "/to/there/file"),
      uint64_t{1} << 42);
  EXPECT_TRUE(Check().has_value());
}

}  // namespace
}  // namespace bootstream
