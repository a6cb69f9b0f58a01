#include "blockmap/image/pack.h"

#include <gtest/gtest.h>

#include "blockmap/image/signing.h"
#include "tests/support/fake_image.h"

namespace bootstream {
namespace {

std::vector<std::byte> Compressible(size_t size) {
  std::vector<std::byte> out(size);
  for (size_t i = 0; i < size; ++i) out[i] = static_cast<std::byte>(i / 97);
  return out;
}

std::vector<std::byte> FrameOf(std::span<const std::byte> content) {
  return *FrameEncoder(3).Encode(content);
}

TEST(PackTest, FramesGoBothWaysAndFitTheBound) {
  FrameDecoder decoder;
  for (const size_t size : {4096, 65536, 131072, 262144}) {
    for (const auto& content : {Compressible(size), RandomBytes(size, size)}) {
      const auto frame = FrameOf(content);
      EXPECT_LE(frame.size(), FrameBytesMax(static_cast<uint32_t>(size)));
      std::vector<std::byte> out(size);
      ASSERT_TRUE(decoder.DecodeVerified(frame, Sha256Of(content), out));
      EXPECT_EQ(out, content);
    }
  }
}

TEST(PackTest, EncodingIsDeterministicAndLeavesNoState) {
  const auto content = Compressible(131072);
  FrameEncoder encoder(3);
  const auto first = *encoder.Encode(content);
  ASSERT_TRUE(encoder.Encode(RandomBytes(131072, 5)));
  EXPECT_EQ(*encoder.Encode(content), first);
}

TEST(PackTest, LargerContentThanExpectedIsNotWritten) {
  const auto frame = FrameOf(Compressible(262144));
  std::vector<std::byte> memory(65536 + 4096, std::byte{7});
  FrameDecoder decoder;
  EXPECT_FALSE(decoder.Decode(frame, std::span(memory).first(65536)));
  for (size_t i = 65536; i < memory.size(); ++i) {
    ASSERT_EQ(memory[i], std::byte{7});
  }
  EXPECT_FALSE(decoder.Decode(FrameOf(Compressible(4096)),
                              std::span(memory).first(8192)));
}

// A frame whose header states the expected size but whose blocks hold more.
TEST(PackTest, BombThatLiesAboutItsSizeIsRefused) {
  auto frame = FrameOf(Compressible(262144));
  // Frame header: magic 4, descriptor 1, content size 4 (single segment).
  ASSERT_EQ(frame[4] & std::byte{0xe0}, std::byte{0xa0});
  frame[5] = std::byte{0};
  frame[6] = std::byte{0};
  frame[7] = std::byte{1};
  frame[8] = std::byte{0};
  std::vector<std::byte> memory(65536 + 4096, std::byte{7});
  FrameDecoder decoder;
  EXPECT_FALSE(decoder.Decode(frame, std::span(memory).first(65536)));
  for (size_t i = 65536; i < memory.size(); ++i) {
    ASSERT_EQ(memory[i], std::byte{7});
  }
}

TEST(PackTest, DamagedFramesAreRefused) {
  const auto content = Compressible(65536);
  const auto frame = FrameOf(content);
  const Sha256 digest = Sha256Of(content);
  std::vector<std::byte> out(content.size());
  FrameDecoder decoder;
  for (size_t size = 0; size < frame.size(); ++size) {
    ASSERT_FALSE(decoder.Decode(std::span(frame).first(size), out)) << size;
  }
  for (size_t at = 0; at < frame.size(); ++at) {
    auto bad = frame;
    bad[at] ^= std::byte{0x10};
    const auto status = decoder.DecodeVerified(bad, digest, out);
    ASSERT_TRUE(!status || out == content) << at;
  }
  auto two = frame;
  two.insert(two.end(), frame.begin(), frame.end());
  EXPECT_FALSE(decoder.Decode(two, out));
  EXPECT_TRUE(decoder.DecodeVerified(frame, digest, out));
}

TEST(PackTest, WrongDigestIsRefused) {
  const auto content = Compressible(65536);
  std::vector<std::byte> out(content.size());
  FrameDecoder decoder;
  const auto status =
      decoder.DecodeVerified(FrameOf(content), Sha256Of({}), out);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace bootstream
