#include "blockmap/map/map_store.h"

#include <gtest/gtest.h>

#include <optional>

#include "tests/support/crash_device.h"
#include "tests/support/map_fixture.h"
#include "tests/support/memory_device.h"

namespace bootstream {
namespace {

constexpr uint64_t kFull = 0xffff;

PlacementWish ForChunk(uint64_t chunk) {
  return {PlacementWish::For::kImageChunk, ImageChunk{chunk}};
}

DiskChunk Place(MapStore& store, uint64_t chunk, uint64_t dirty = 0) {
  const auto at = store.Allocate(ForChunk(chunk));
  EXPECT_TRUE(at);
  store.SetChunk(ImageChunk{chunk}, {Location::At(*at), kFull, dirty});
  return *at;
}

Status Commit(MapStore& store) { return RunInline(store.Commit()); }

TEST(MapStoreTest, WhatWasCommittedIsThereAfterOpening) {
  MemoryDevice device(MapFixture::kDiskBytes);
  auto store = MapFixture::Create(device);
  ASSERT_TRUE(store);
  const DiskChunk at = Place(*store, 10, 0x3);
  EXPECT_TRUE(store->has_changes());
  ASSERT_TRUE(Commit(*store));
  EXPECT_FALSE(store->has_changes());
  store.reset();

  auto again = MapFixture::Open(device);
  ASSERT_TRUE(again) << again.error().message;
  const ChunkState state = (*again)->map().Get(ImageChunk{10});
  EXPECT_EQ(state, (ChunkState{Location::At(at), kFull, 0x3}));
  EXPECT_EQ((*again)->region().OccupantOf(at).use, ChunkUse::kImage);
  EXPECT_EQ((*again)->region().OccupantOf(at).number, 10U);
}

}  // namespace
}  // namespace bootstream
