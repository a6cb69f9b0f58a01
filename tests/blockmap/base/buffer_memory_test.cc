#include "blockmap/base/buffer_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

namespace bootstream {
namespace {

constexpr size_t kMib = size_t{1} << 20;

// mincore(2) says ENOMEM of what is not mapped.
bool IsMapped(std::byte* memory) {
  unsigned char resident = 0;
  return ::mincore(memory, 1, &resident) == 0 || errno != ENOMEM;
}

class BufferMemoryTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!kBufferMemoryIsKept) GTEST_SKIP() << "kept for nobody";
    ReleaseUnusedBufferMemory();
    ReleaseUnusedBufferMemory();
  }
};

TEST(BufferMemoryOfAnySize, IsAlignedAndHasRoomForWholeBlocks) {
  for (const size_t bytes :
       {size_t{1}, size_t{4096}, (size_t{32} << 10) - 1, size_t{32} << 10,
        (size_t{32} << 10) + 1, size_t{100000}, size_t{132353}, 4 * kMib,
        4 * kMib + 1, 9 * kMib}) {
    std::byte* const memory = TakeBufferMemory(bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory) % kBlockBytes, 0u) << bytes;
    std::memset(memory, 0x5a, WholeBlocks(bytes));
    GiveBufferMemory(memory, bytes);
  }
}

TEST_F(BufferMemoryTest, WhatIsFreedServesTheNextOfItsSize) {
  std::byte* const memory = TakeBufferMemory(kMib);
  GiveBufferMemory(memory, kMib);
  std::byte* const larger = TakeBufferMemory(kMib + 1);
  EXPECT_NE(larger, memory);
  std::byte* const almost = TakeBufferMemory(kMib - 1);
  EXPECT_EQ(almost, memory);
  GiveBufferMemory(larger, kMib + 1);
  GiveBufferMemory(almost, kMib - 1);
}

TEST_F(BufferMemoryTest, WhatWaitsWithoutBeingWantedGoesBack) {
  std::byte* const wanted = TakeBufferMemory(kMib);
  std::byte* const unwanted = TakeBufferMemory(kMib);
  GiveBufferMemory(unwanted, kMib);
  GiveBufferMemory(wanted, kMib);
  ReleaseUnusedBufferMemory();
  ASSERT_TRUE(IsMapped(wanted));
  ASSERT_TRUE(IsMapped(unwanted));

  ASSERT_EQ(TakeBufferMemory(kMib), wanted);
  GiveBufferMemory(wanted, kMib);
  ReleaseUnusedBufferMemory();
  EXPECT_EQ(IsMapped(wanted) + IsMapped(unwanted), 1);

  ReleaseUnusedBufferMemory();
  EXPECT_FALSE(IsMapped(wanted));
  EXPECT_FALSE(IsMapped(unwanted));
}

TEST_F(BufferMemoryTest, NotMoreThan64MibWaits) {
  std::set<std::byte*> all;
  while (all.size() < 100) all.insert(TakeBufferMemory(kMib));
  for (std::byte* memory : all) GiveBufferMemory(memory, kMib);
  size_t mapped = 0;
  for (std::byte* memory : all) mapped += IsMapped(memory);
  EXPECT_EQ(mapped, 64u);
}

// The last: what is reserved stays.
TEST_F(BufferMemoryTest, WhatIsReservedIsForThisThread) {
  ReserveBufferMemory(2 * kMib);
  std::byte* const all = TakeBufferMemory(2 * kMib);
  std::byte* const more = TakeBufferMemory(kMib);
  EXPECT_FALSE(all <= more && more < all + 2 * kMib);
  GiveBufferMemory(more, kMib);
  std::thread([&] { GiveBufferMemory(all, 2 * kMib); }).join();
  std::thread([&] {
    std::byte* const other = TakeBufferMemory(kMib);
    EXPECT_FALSE(all <= other && other < all + 2 * kMib);
    GiveBufferMemory(other, kMib);
  }).join();
  ReleaseUnusedBufferMemory();
  ReleaseUnusedBufferMemory();
  EXPECT_TRUE(IsMapped(all));
  std::byte* const again = TakeBufferMemory(kMib);
  EXPECT_EQ(again, all);
  GiveBufferMemory(again, kMib);
}

}  // namespace
}  // namespace bootstream
