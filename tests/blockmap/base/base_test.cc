#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include "blockmap/base/coding.h"
#include "blockmap/base/crc32c.h"
#include "blockmap/base/posix_block_device.h"
#include "blockmap/base/printable.h"
#include "blockmap/base/types.h"
#include "blockmap/base/unique_fd.h"

namespace bootstream {
namespace {

TEST(Crc32cTest, KnownAnswerAndContinuation) {
  // RFC 3720 B.4: 32 bytes of zeroes, 32 bytes of ones.
  std::vector<std::byte> data(32);
  EXPECT_EQ(Crc32c(data), 0x8a9136aaU);
  std::fill(data.begin(), data.end(), std::byte{0xff});
  EXPECT_EQ(Crc32c(data), 0x62a8ab43U);
  const std::span<const std::byte> all(data);
  EXPECT_EQ(Crc32c(all.subspan(5), Crc32c(all.first(5))), 0x62a8ab43U);
}

TEST(CodingTest, ReaderStopsAtTheEnd) {
  std::vector<std::byte> bytes;
  ByteWriter writer(bytes);
  writer.U32(0x01020304);
  writer.String("abc");
  EXPECT_EQ(bytes[0], std::byte{4});
  ByteReader reader(bytes);
  EXPECT_EQ(reader.U32(), 0x01020304U);
  EXPECT_EQ(reader.String(), "abc");
  EXPECT_TRUE(reader.ok());
  EXPECT_EQ(reader.U8(), 0);
  EXPECT_FALSE(reader.ok());
}

TEST(GridTest, LastChunkMayBeShort) {
  const Grid grid{kChunkBytesDefault, 2 * kChunkBytesDefault + 8192};
  EXPECT_EQ(grid.chunk_count(), 3U);
  EXPECT_EQ(grid.bytes_of(2), 8192U);
  EXPECT_EQ(grid.full_mask(2), 3U);
  EXPECT_EQ(grid.full_mask(0), 0xffffffffU);
  EXPECT_EQ((Grid{kChunkBytesMax, kChunkBytesMax}.full_mask(0)), ~uint64_t{0});
}

TEST(PrintableTest, WordsOfOthersAreShortPlainText) {
  EXPECT_EQ(Printable("bytes 1-2/3"), "bytes 1-2/3");
  EXPECT_EQ(Printable("a\xff\n\x1b[0m"), "a???[0m");
  EXPECT_EQ(Printable("abcdef", 3), "abc...");
}

TEST(PosixBlockDeviceTest, MissingDiskSaysItsName) {
  const auto device =
      PosixBlockDevice::Open("/nonexistent/disk", OpenMode::kReadOnly);
  ASSERT_FALSE(device.has_value());
  EXPECT_NE(device.error().message.find("/nonexistent/disk"),
            std::string::npos);
}

TEST(PosixBlockDeviceTest, FilesInMemoryAreToldFromNodesOfDisks) {
  const UniqueFd file(::memfd_create("disk", MFD_CLOEXEC));
  EXPECT_TRUE(LiesInMemory(file.get()));
  // Its node is in devtmpfs, as that of a disk.
  const UniqueFd node(::open("/dev/null", O_RDWR | O_CLOEXEC));
  EXPECT_FALSE(LiesInMemory(node.get()));
}

}  // namespace
}  // namespace bootstream
