#include "blockmap/map/region.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <vector>

namespace bootstream {
namespace {

using For = PlacementWish::For;

// Image of 100 chunks: 0 to 9 kept, 50 to 59 zero.  Region: 0 to 19, 50 to 79
// and 100 to 104.
Region SomeRegion() {
  return Region(
      {{0, 20}, {50, 30}, {100, 5}}, Grid{65536, uint64_t{100} * 65536},
      [](ImageChunk c) { return c.value >= 50 && c.value < 60; },
      [](ImageChunk c) { return c.value < 10; });
}

PlacementWish Image(uint64_t chunk) {
  return {For::kImageChunk, ImageChunk{chunk}};
}

std::vector<uint64_t> AllFor(Region& region, const PlacementWish& wish) {
  std::vector<uint64_t> all;
  while (const auto chunk = region.Allocate(wish, true)) {
    all.push_back(chunk->value);
  }
  return all;
}

TEST(RegionTest, KnowsWhatIsOurs) {
  const Region region = SomeRegion();
  EXPECT_EQ(region.chunk_count(), 55U);
  EXPECT_EQ(region.free_count(), 55U);
  EXPECT_EQ(region.plain_free_count(), 45U);
  for (const uint64_t ours : {0, 19, 50, 79, 100, 104}) {
    EXPECT_EQ(region.OccupantOf(DiskChunk{ours}).use, ChunkUse::kFree);
  }
  for (const uint64_t not_ours : {20, 49, 80, 99, 105}) {
    EXPECT_EQ(region.OccupantOf(DiskChunk{not_ours}).use, ChunkUse::kForeign);
  }
}

TEST(RegionTest, ImageChunkGoesHomeIfItsHomeIsFree) {
  Region region = SomeRegion();
  EXPECT_EQ(region.Allocate(Image(3)), DiskChunk{3});
  EXPECT_EQ(region.Allocate(Image(70)), DiskChunk{70});
  EXPECT_EQ(region.OccupantOf(DiskChunk{70}).use, ChunkUse::kReserved);
}

TEST(RegionTest, ImageChunkWithoutAHomeTakesTheLeastWantedPlace) {
  Region region = SomeRegion();
  std::vector<uint64_t> expected;
  for (uint64_t i = 100; i < 105; ++i) expected.push_back(i);  // beyond
  for (uint64_t i = 50; i < 60; ++i) expected.push_back(i);    // zero homes
  for (uint64_t i = 79; i >= 60; --i) expected.push_back(i);   // late homes
  for (uint64_t i = 19; i >= 10; --i) expected.push_back(i);
  for (int i = 9; i >= 0; --i) expected.push_back(i);  // kept homes
  EXPECT_EQ(AllFor(region, Image(30)), expected);
}

TEST(RegionTest, OnlyImageChunksTakeKeptHomes) {
  for (const For purpose : {For::kMetadata, For::kSource, For::kStagedChunk}) {
    Region region = SomeRegion();
    const auto all = AllFor(region, {purpose, ImageChunk{30}});
    EXPECT_EQ(all.size(), 45U);
    for (const uint64_t chunk : all) EXPECT_GE(chunk, 10U);
  }
  Region region = SomeRegion();
  EXPECT_EQ(region.Allocate({For::kStagedChunk, ImageChunk{4}}), DiskChunk{4});
}

TEST(RegionTest, SpareAndReserveAreHeldBackInPlainChunks) {
  Region region = SomeRegion();
  region.set_spare_count(6);
  region.set_reserve_count(4);
  EXPECT_EQ(region.available_count(), 45U);
  EXPECT_EQ(region.available_count(/*use_spare=*/true), 51U);
  std::vector<uint64_t> ordinary;
  while (const auto chunk = region.Allocate({For::kSource, {}})) {
    ordinary.push_back(chunk->value);
  }
  EXPECT_EQ(ordinary.size(), 35U);
  EXPECT_EQ(AllFor(region, {For::kSource, {}}).size(), 6U);
  // Kept homes serve image chunks only, and all of them.
  EXPECT_EQ(region.available_count(), 10U);
  EXPECT_EQ(AllFor(region, Image(30)).size(), 10U);
  EXPECT_EQ(AllFor(region, {For::kMetadata, {}}).size(), 4U);
  EXPECT_EQ(region.free_count(), 0U);
}

TEST(RegionTest, HomeIsGivenOnlyIfItIsNotHeldBack) {
  Region region(
      {{60, 3}}, Grid{65536, uint64_t{100} * 65536},
      [](ImageChunk) { return false; }, [](ImageChunk) { return false; });
  region.set_reserve_count(3);
  EXPECT_FALSE(region.Allocate(Image(60), true));
  EXPECT_FALSE(region.AllocateAt(DiskChunk{60}));
  region.set_reserve_count(2);
  EXPECT_TRUE(region.AllocateAt(DiskChunk{60}));
}

TEST(RegionTest, RelocatedPlacesJoinAndLeave) {
  Region region = SomeRegion();
  region.Join(DiskChunk{30});
  EXPECT_EQ(region.OccupantOf(DiskChunk{30}).use, ChunkUse::kReserved);
  EXPECT_EQ(region.chunk_count(), 56U);
  region.Free(DiskChunk{30});
  EXPECT_EQ(region.free_count(), 56U);
  region.Leave(DiskChunk{30});
  EXPECT_FALSE(region.IsOurs(DiskChunk{30}));
  EXPECT_EQ(region.free_count(), 55U);
}

TEST(RegionTest, ShortLastChunkIsForTheImageChunkAtHomeThereOnly) {
  Region region(
      {}, Grid{65536, 99 * 65536 + 4096}, [](ImageChunk) { return false; },
      [](ImageChunk) { return false; });
  region.set_short_chunk(DiskChunk{99});
  region.Join(DiskChunk{99});
  region.Free(DiskChunk{99});
  EXPECT_FALSE(region.Allocate(Image(1), true));
  EXPECT_FALSE(region.Allocate({For::kMetadata, {}}, true));
  EXPECT_EQ(region.Allocate(Image(99), true), DiskChunk{99});
}

TEST(RegionTest, CountsAgreeWithAModelThroughARandomLife) {
  Region region = SomeRegion();
  std::map<uint64_t, ChunkUse> model;
  for (uint64_t i = 0; i < 105; ++i) {
    if (region.IsOurs(DiskChunk{i})) model[i] = ChunkUse::kFree;
  }
  std::mt19937_64 random(3);
  for (int i = 0; i < 20000; ++i) {
    const DiskChunk chunk{random() % 105};
    const auto known = model.find(chunk.value);
    if (known == model.end()) {
      EXPECT_FALSE(region.AllocateAt(chunk));
    } else if (random() % 2 == 0) {
      const bool is_free = known->second == ChunkUse::kFree;
      EXPECT_EQ(region.AllocateAt(chunk), is_free);
      if (is_free) known->second = ChunkUse::kReserved;
    } else if (random() % 2 == 0) {
      region.Free(chunk);
      known->second = ChunkUse::kFree;
    } else {
      region.SetOccupant(chunk, {ChunkUse::kImage, chunk.value + 7});
      known->second = ChunkUse::kImage;
      EXPECT_EQ(region.OccupantOf(chunk).number, chunk.value + 7);
    }
    EXPECT_EQ(region.free_count(),
              static_cast<uint64_t>(std::count_if(
                  model.begin(), model.end(), [](const auto& entry) {
                    return entry.second == ChunkUse::kFree;
                  })));
  }
  for (const auto& [number, use] : model) {
    EXPECT_EQ(region.OccupantOf(DiskChunk{number}).use, use);
  }
}

}  // namespace
}  // namespace bootstream
