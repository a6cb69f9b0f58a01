#include "initramfs/takeover/streamed_partitions.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace bootstream {
namespace {

constexpr uint64_t kMiB = 1 << 20;

// A sparse file of 64 MiB with the partition table that `script`, sfdisk's
// input, describes.
class StreamedPartitionsTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/streamed-partitions-XXXXXX";
    const int fd = mkstemp(name);
    ASSERT_GE(fd, 0);
    close(fd);
    path_ = name;
    std::filesystem::resize_file(path_, 64 * kMiB);
  }
  void TearDown() override { std::filesystem::remove(path_); }

  void Partition(const std::string& script) {
    std::ofstream(path_ + ".script") << script;
    const std::string command =
        "sfdisk --quiet " + path_ + " <" + path_ + ".script";
    const int result = std::system(command.c_str());
    std::filesystem::remove(path_ + ".script");
    ASSERT_EQ(result, 0) << command;
  }

  std::string path_;
};

TEST_F(StreamedPartitionsTest, GptKeepsNumbersWithGaps) {
  Partition(
      "label: gpt\n"
      "2 : start=2048, size=4096\n"
      "5 : start=8192, size=16384\n");
  const auto partitions = ReadStreamedPartitions(path_);
  ASSERT_TRUE(partitions.has_value()) << partitions.error().message;
  ASSERT_EQ(partitions->size(), 2u);
  EXPECT_EQ(partitions->at(0).number, 2);
  EXPECT_EQ(partitions->at(0).start_bytes, 1 * kMiB);
  EXPECT_EQ(partitions->at(0).size_bytes, 2 * kMiB);
  EXPECT_EQ(partitions->at(1).number, 5);
  EXPECT_EQ(partitions->at(1).start_bytes, 4 * kMiB);
  EXPECT_EQ(partitions->at(1).size_bytes, 8 * kMiB);
}

TEST_F(StreamedPartitionsTest, ExtendedPartitionIsLeftOut) {
  Partition(
      "label: dos\n"
      "1 : start=2048, size=4096, type=83\n"
      "2 : start=8192, size=32768, type=5\n"
      "5 : start=10240, size=4096, type=83\n");
  const auto partitions = ReadStreamedPartitions(path_);
  ASSERT_TRUE(partitions.has_value()) << partitions.error().message;
  ASSERT_EQ(partitions->size(), 2u);
  EXPECT_EQ(partitions->at(0).number, 1);
  EXPECT_EQ(partitions->at(1).number, 5);
  EXPECT_EQ(partitions->at(1).start_bytes, 5 * kMiB);
}

TEST_F(StreamedPartitionsTest, EmptyDiskIsNotFound) {
  const auto partitions = ReadStreamedPartitions(path_);
  ASSERT_FALSE(partitions.has_value());
  EXPECT_EQ(partitions.error().code, ErrorCode::kNotFound);
}

TEST_F(StreamedPartitionsTest, PartitionBehindTheEndIsRefused) {
  Partition(
      "label: dos\n"
      "1 : start=2048, size=65536, type=83\n");
  std::filesystem::resize_file(path_, 16 * kMiB);
  const auto partitions = ReadStreamedPartitions(path_);
  ASSERT_FALSE(partitions.has_value());
  EXPECT_EQ(partitions.error().code, ErrorCode::kCorrupt);
}

TEST_F(StreamedPartitionsTest, MissingDeviceIsNamed) {
  const auto partitions = ReadStreamedPartitions("/dev/no-such-device");
  ASSERT_FALSE(partitions.has_value());
  EXPECT_NE(partitions.error().message.find("/dev/no-such-device"),
            std::string::npos);
}

}  // namespace
}  // namespace bootstream
