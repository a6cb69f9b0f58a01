#include "blockmap/map/block_map.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

namespace bootstream {
namespace {

ChunkState At(uint64_t chunk, uint64_t valid = 1, uint64_t dirty = 0) {
  return {Location::At(DiskChunk{chunk}), valid, dirty};
}

Patch Bytes(uint32_t offset, std::initializer_list<int> bytes) {
  Patch patch{offset, {}};
  for (const int byte : bytes) patch.data.push_back(std::byte(byte));
  return patch;
}

TEST(BlockMapTest, ChunksAreAbsentUntilSet) {
  BlockMap map;
  EXPECT_EQ(map.Get(ImageChunk{5}), ChunkState{});
  map.Set(ImageChunk{5}, At(9, 3, 1));
  EXPECT_EQ(map.Get(ImageChunk{5}), At(9, 3, 1));
  EXPECT_EQ(map.chunk_count(), 1U);
  map.Set(ImageChunk{5}, ChunkState{});
  EXPECT_EQ(map.chunk_count(), 0U);
  EXPECT_EQ(map.page_count(), 0U);
}

TEST(BlockMapTest, BehavesAsAPlainMap) {
  BlockMap map;
  std::map<ImageChunk, ChunkState> model;
  std::mt19937_64 random(1);
  for (int i = 0; i < 20000; ++i) {
    const ImageChunk chunk{random() % 1000 * (random() % 3)};
    const ChunkState state =
        random() % 3 == 0 ? ChunkState{} : At(random() % 100);
    map.Set(chunk, state);
    if (state.location.is_absent()) {
      model.erase(chunk);
    } else {
      model[chunk] = state;
    }
  }
  EXPECT_EQ(map.chunk_count(), model.size());
  auto expected = model.begin();
  map.ForEach([&](ImageChunk chunk, const ChunkState& state) {
    ASSERT_NE(expected, model.end());
    EXPECT_EQ(chunk, expected->first);
    EXPECT_EQ(state, expected->second);
    ++expected;
  });
  EXPECT_EQ(expected, model.end());
}

TEST(BlockMapTest, RelocationsComeAndGo) {
  BlockMap map;
  map.SetRelocation(DiskChunk{1}, DiskChunk{2});
  map.SetRelocation(DiskChunk{1}, DiskChunk{3});
  EXPECT_EQ(map.Relocated(DiskChunk{1}), DiskChunk{3});
  map.SetRelocation(DiskChunk{1}, std::nullopt);
  EXPECT_FALSE(map.Relocated(DiskChunk{1}));
}

TEST(BlockMapTest, PatchesAreMergedInOrderIntoTheBlocksAskedFor) {
  BlockMap map;
  const ImageChunk chunk{4};
  map.AddPatch(chunk, Bytes(10, {1, 1, 1}));
  map.AddPatch(chunk, Bytes(11, {2}));
  map.AddPatch(chunk, Bytes(kBlockBytes, {3}));
  std::vector<std::byte> base(size_t{2} * kBlockBytes);
  map.Merge(chunk, 1, base);
  EXPECT_EQ(base[10], std::byte{1});
  EXPECT_EQ(base[11], std::byte{2});
  EXPECT_EQ(base[12], std::byte{1});
  EXPECT_EQ(base[kBlockBytes], std::byte{0});
}

TEST(BlockMapTest, PatchesOfBlocksThatBecomeValidAreDropped) {
  BlockMap map;
  const ImageChunk chunk{4};
  map.AddPatch(chunk, Bytes(10, {1, 2}));
  map.AddPatch(chunk, Bytes(kBlockBytes + 7, {3}));
  map.Set(chunk, At(9, 0b10));
  ASSERT_EQ(map.PatchesOf(chunk).size(), 1U);
  EXPECT_EQ(map.PatchesOf(chunk)[0].offset, 10U);
  EXPECT_EQ(map.patch_count(), 1U);
  EXPECT_EQ(map.patch_bytes(), 2U);
  map.Set(chunk, {Location::Zero(), 0, 0});
  EXPECT_FALSE(map.has_patches());
  EXPECT_EQ(map.patch_bytes(), 0U);
}

TEST(BlockMapTest, PatchesStayWhereTheirBlockIsStillMissing) {
  BlockMap map;
  map.AddPatch(ImageChunk{4}, Bytes(10, {1}));
  map.Set(ImageChunk{4}, At(9, 0b100));
  map.Set(ImageChunk{4}, ChunkState{});
  EXPECT_EQ(map.PatchesOf(ImageChunk{4}).size(), 1U);
}

}  // namespace
}  // namespace bootstream
