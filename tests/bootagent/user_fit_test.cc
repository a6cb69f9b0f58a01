#include "bootagent/user_fit.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "tests/support/fake_chunk_source.h"
#include "tests/support/fake_image.h"

namespace bootstream {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

UserSpace Space(uint64_t user, uint64_t free) { return {user, free, ""}; }

TEST(UserFitTest, BeforeAfterNeverByWhatIsThere) {
  EXPECT_EQ(JudgeUserSpace(Space(10, 20), 10).fit, UserFit::kBeforeCommit);
  EXPECT_EQ(JudgeUserSpace(Space(10, 20), 9).fit, UserFit::kAfterCommit);
  EXPECT_EQ(JudgeUserSpace(Space(20, 20), std::nullopt).fit,
            UserFit::kBeforeCommit);
  EXPECT_EQ(JudgeUserSpace(Space(21, 20), std::nullopt).fit, UserFit::kNever);
  EXPECT_EQ(JudgeUserSpace(Space(21, 20), 5).fit, UserFit::kNever);
  EXPECT_EQ(JudgeUserSpace(Space(0, 0), 0).fit, UserFit::kBeforeCommit);
}

TEST(UserFitTest, ByHowMuchIsSaid) {
  const auto never = JudgeUserSpace(Space(30 * kMiB, 20 * kMiB), std::nullopt);
  EXPECT_NE(never.sentence.find("10.0 MiB are missing"), std::string::npos)
      << never.sentence;
  const auto after = JudgeUserSpace(Space(30 * kMiB, 40 * kMiB), 10 * kMiB);
  EXPECT_NE(after.sentence.find("20.0 MiB are missing"), std::string::npos)
      << after.sentence;
}

TEST(UserFitTest, WhatIsNotKnownIsSaid) {
  UserSpace space;
  space.image_free_bytes = 5;
  space.unknown = "why not";
  const auto judged = JudgeUserSpace(space, std::nullopt);
  EXPECT_EQ(judged.fit, UserFit::kUnknown);
  EXPECT_EQ(judged.sentence, "why not");
}

class ImageFreeTest : public testing::Test {
 protected:
  ImageFreeTest() : folder_(testing::TempDir() + "fit-XXXXXX") {
    EXPECT_NE(::mkdtemp(folder_.data()), nullptr);
  }
  ~ImageFreeTest() override { std::filesystem::remove_all(folder_); }
  void Run(const std::string& command) {
    ASSERT_EQ(std::system(("cd " + folder_ + " && " + command).c_str()), 0);
  }
  // An image with two partitions, of which `make` has made what is in them.
  std::optional<uint64_t> FreeIn(const std::string& make) {
    Run("truncate -s 48M image && " + make);
    std::ifstream in(folder_ + "/image", std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(in)), {});
    std::vector<std::byte> image(bytes.size());
    std::memcpy(image.data(), bytes.data(), bytes.size());
    const Manifest manifest = SignAndOpen(DescribeImage(image));
    FakeChunkSource source(image);
    PartitionTable table;
    table.partitions.resize(2);
    table.partitions[0].extent = {kMiB, 8 * kMiB};
    table.partitions[1].extent = {16 * kMiB, 32 * kMiB};
    auto free = RunInline(ReadImageFreeBytes(manifest, table, source));
    EXPECT_TRUE(free.has_value()) << free.error().message;
    return free ? *free : std::nullopt;
  }
  std::string folder_;
};

TEST_F(ImageFreeTest, TheLargestExtOneCounts) {
  const auto free = FreeIn(
      "mkfs.ext4 -q -F -b 4096 -m 5 -E offset=16777216 image 32M &&"
      "mkfs.ext4 -q -F -E offset=1048576 image 8M");
  ASSERT_TRUE(free.has_value());
  EXPECT_GT(*free, 20 * kMiB);
  // Less than without what is held back for root.
  const auto more =
      FreeIn("mkfs.ext4 -q -F -b 4096 -m 0 -E offset=16777216 image 32M");
  EXPECT_EQ(*more - *free, 32 * kMiB * 5 / 100 / 4096 * 4096);
}

TEST_F(ImageFreeTest, WithoutOneNothingIsKnown) {
  EXPECT_FALSE(FreeIn("true").has_value());
}

}  // namespace
}  // namespace bootstream
