#include "imgserver/overlay_disk.h"

#include <cstring>

#include "tests/blockmap/disk/disk_fixture.h"

namespace bootstream {
namespace {

class OverlayDiskTest : public DiskTest {};

TEST_F(OverlayDiskTest, WritesAreSeenAndTheFileStaysAsItWas) {
  MakeFile("disk", 1 << 20);
  Run("head -c 1M /dev/urandom >disk && cp disk before");
  const auto image = DiskImage::Open(Path("disk"));
  OverlayDisk overlay(*image, 1 << 20);
  const std::vector<char> before = Load(Path("before"));
  std::vector<std::byte> expected(before.size());
  std::memcpy(expected.data(), before.data(), before.size());

  const std::vector<std::byte> data(9000, std::byte{0x5a});
  ASSERT_TRUE(RunInline(overlay.Write(5000, data, false)));
  std::copy(data.begin(), data.end(), expected.begin() + 5000);
  ASSERT_TRUE(RunInline(overlay.WriteZeroes(13000, 300000, false)));
  std::fill_n(expected.begin() + 13000, 300000, std::byte{0});

  std::vector<std::byte> got(expected.size());
  ASSERT_TRUE(RunInline(overlay.Read(0, got)));
  EXPECT_EQ(got, expected);
  std::vector<std::byte> part(1000);
  ASSERT_TRUE(RunInline(overlay.Read(4999, part)));
  EXPECT_EQ(std::memcmp(part.data(), expected.data() + 4999, 1000), 0);
  Run("cmp disk before");
}

TEST_F(OverlayDiskTest, TooMuchWrittenIsNoSpace) {
  MakeFile("disk", 1 << 20);
  const auto image = DiskImage::Open(Path("disk"));
  OverlayDisk overlay(*image, 8192);
  const std::vector<std::byte> data(8192);
  ASSERT_TRUE(RunInline(overlay.Write(0, data, false)));
  ASSERT_TRUE(RunInline(overlay.Write(0, data, false)));
  const Status status = RunInline(overlay.Write(8192, data, false));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kNoSpace);
}

}  // namespace
}  // namespace bootstream
