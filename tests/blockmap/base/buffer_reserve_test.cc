#include "blockmap/base/buffer_reserve.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "blockmap/base/types.h"

namespace bootstream {
namespace {

constexpr size_t kBlock = kBlockBytes;

class BufferReserveTest : public testing::Test {
 protected:
  static constexpr size_t kBlocks = 200;
  BufferReserveTest() : memory_(kBlocks * kBlock) {
    reserve_.Fill(memory_.data(), memory_.size());
  }
  size_t BlockOf(const std::byte* memory) const {
    return static_cast<size_t>(memory - memory_.data()) / kBlock;
  }

  std::vector<std::byte> memory_;
  BufferReserve reserve_;
};

TEST(AnEmptyBufferReserve, HasNothingAndKnowsNothing) {
  BufferReserve reserve;
  std::byte other{};
  EXPECT_EQ(reserve.Take(kBlock), nullptr);
  EXPECT_FALSE(reserve.Give(&other, kBlock));
}

TEST_F(BufferReserveTest, GivesAllThatThereIsAndNoMore) {
  std::byte* const all = reserve_.Take(kBlocks * kBlock);
  EXPECT_EQ(all, memory_.data());
  EXPECT_EQ(reserve_.Take(kBlock), nullptr);
  EXPECT_TRUE(reserve_.Give(all, kBlocks * kBlock));
  EXPECT_EQ(reserve_.Take((kBlocks + 1) * kBlock), nullptr);
  EXPECT_NE(reserve_.Take(kBlocks * kBlock), nullptr);
}

TEST_F(BufferReserveTest, TheLowestRunThatIsLongEnough) {
  std::byte* const first = reserve_.Take(3 * kBlock);
  std::byte* const second = reserve_.Take(64 * kBlock);
  std::byte* const third = reserve_.Take(70 * kBlock);
  EXPECT_EQ(BlockOf(third), 67u);
  EXPECT_TRUE(reserve_.Give(first, 3 * kBlock));
  EXPECT_EQ(BlockOf(reserve_.Take(4 * kBlock)), 137u);
  EXPECT_EQ(BlockOf(reserve_.Take(2 * kBlock)), 0u);
  EXPECT_TRUE(reserve_.Give(second, 64 * kBlock));
  EXPECT_EQ(BlockOf(reserve_.Take(65 * kBlock)), 2u);
}

TEST_F(BufferReserveTest, WhatLiesBesideItIsNotItsOwn) {
  EXPECT_FALSE(reserve_.Give(memory_.data() + memory_.size(), kBlock));
  std::vector<std::byte> other(kBlock);
  EXPECT_FALSE(reserve_.Give(other.data(), kBlock));
}

// Against a plain list of which block is whose.
TEST_F(BufferReserveTest, NoTwoShareABlock) {
  std::mt19937 random(3);
  std::vector<int> owner(kBlocks, 0);
  std::vector<std::pair<size_t, size_t>> taken;  // first block, count
  for (int step = 1; step < 20000; ++step) {
    if (!taken.empty() && random() % 2 == 0) {
      std::swap(taken[random() % taken.size()], taken.back());
      const auto [first, count] = taken.back();
      taken.pop_back();
      ASSERT_TRUE(
          reserve_.Give(memory_.data() + first * kBlock, count * kBlock));
      std::fill_n(owner.begin() + static_cast<long>(first), count, 0);
      continue;
    }
    const size_t count = 1 + random() % (random() % 8 == 0 ? 130 : 9);
    const auto run = std::search_n(owner.begin(), owner.end(), count, 0);
    std::byte* const memory = reserve_.Take(count * kBlock);
    ASSERT_EQ(memory == nullptr, run == owner.end());
    if (memory == nullptr) continue;
    ASSERT_EQ(BlockOf(memory), static_cast<size_t>(run - owner.begin()));
    std::fill_n(run, count, step);
    taken.emplace_back(BlockOf(memory), count);
  }
}

}  // namespace
}  // namespace bootstream
