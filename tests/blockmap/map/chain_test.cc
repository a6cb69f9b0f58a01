#include "blockmap/map/chain.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "tests/support/memory_device.h"

namespace bootstream {
namespace {

constexpr uint64_t kChunk = 65536;
constexpr Grid kDisk = {kChunk, 16 * kChunk + 512};

// A manifest of three chunks.
class ChainTest : public testing::Test {
 protected:
  ChainTest() : device_(kDisk.size_bytes) {
    name_ = {ChainKind::kManifest, Uuid{std::byte{1}}, 9};
    chunks_ = {DiskChunk{7}, DiskChunk{3}, DiskChunk{11}};
    payload_.resize(2 * ChainPayloadBytes(kChunk) + 1234);
    for (size_t i = 0; i < payload_.size(); ++i) {
      payload_[i] = std::byte(i * 31 >> 3);
    }
    EXPECT_TRUE(
        RunInline(WriteChain(device_, kChunk, name_, chunks_, payload_)));
  }
  Result<Chain> Read(bool with_payload = true) {
    return RunInline(
        ReadChain(device_, kDisk, name_, chunks_.front(), with_payload));
  }
  // Change the header of chunk `index` and seal it again.
  void Alter(size_t index, const std::function<void(ChainHeader&)>& change) {
    const auto at = device_.bytes().subspan(chunks_[index].value * kChunk,
                                            kChainHeaderBytes);
    auto header = DecodeChainHeader(at);
    ASSERT_TRUE(header);
    change(*header);
    const auto block = EncodeChainHeader(*header);
    std::copy(block.begin(), block.end(), at.begin());
  }

  MemoryDevice device_;
  ChainName name_;
  std::vector<DiskChunk> chunks_;
  std::vector<std::byte> payload_;
};

TEST_F(ChainTest, PayloadComesBack) {
  const auto chain = Read();
  ASSERT_TRUE(chain) << chain.error().message;
  EXPECT_EQ(chain->payload, payload_);
  EXPECT_EQ(chain->chunks, chunks_);
  EXPECT_EQ(Read(false)->chunks, chunks_);
}

TEST_F(ChainTest, EmptyPayloadIsOneChunk) {
  EXPECT_EQ(ChainChunksFor(0, kChunk), 1U);
  EXPECT_EQ(ChainChunksFor(61440, kChunk), 1U);
  EXPECT_EQ(ChainChunksFor(61441, kChunk), 2U);
  chunks_ = {DiskChunk{4}};
  EXPECT_TRUE(RunInline(WriteChain(device_, kChunk, name_, chunks_, {})));
  EXPECT_TRUE(Read()->payload.empty());
}

TEST_F(ChainTest, EveryDamagedByteIsCorrupt) {
  for (const DiskChunk chunk : chunks_) {
    const size_t used =
        chunk == chunks_.back() ? kChainHeaderBytes + 1234 : kChunk;
    for (size_t at = 0; at < used; at += at < kChainHeaderBytes ? 1 : 97) {
      std::byte& byte = device_.bytes()[chunk.value * kChunk + at];
      byte ^= std::byte{4};
      const auto chain = Read();
      ASSERT_FALSE(chain) << chunk.value << " " << at;
      EXPECT_EQ(chain.error().code, ErrorCode::kCorrupt);
      byte ^= std::byte{4};
    }
  }
}

TEST_F(ChainTest, ChunkOfAnotherChainIsCorrupt) {
  const std::vector<std::function<void(ChainHeader&)>> changes = {
      [](ChainHeader& h) { h.name.epoch = 8; },
      [](ChainHeader& h) { h.name.kind = ChainKind::kCheckpoint; },
      [](ChainHeader& h) { h.name.migration_id = Uuid{std::byte{2}}; },
      [](ChainHeader& h) { h.index = 2; },
      [](ChainHeader& h) { h.first_sequence = 1; },
      [](ChainHeader& h) { h.payload_bytes = kChunk; },
      [](ChainHeader& h) { h.payload_bytes = ~uint32_t{0}; },
      [](ChainHeader& h) { h.next = DiskChunk{16}; },  // short last chunk
      [](ChainHeader& h) { h.next = DiskChunk{kNone - 1}; },
      [](ChainHeader& h) { h.next = DiskChunk{7}; },  // a cycle
      [](ChainHeader& h) { h.next = DiskChunk{3}; },
  };
  const std::vector<std::byte> kept(device_.bytes().begin(),
                                    device_.bytes().end());
  for (size_t i = 0; i < changes.size(); ++i) {
    Alter(1, changes[i]);
    for (const bool with_payload : {true, false}) {
      const auto chain = Read(with_payload);
      ASSERT_FALSE(chain) << i;
      EXPECT_EQ(chain.error().code, ErrorCode::kCorrupt);
    }
    std::copy(kept.begin(), kept.end(), device_.bytes().begin());
  }
}

TEST_F(ChainTest, NowhereIsCorrupt) {
  chunks_.front() = DiskChunk{kNone};
  EXPECT_EQ(Read().error().code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace bootstream
