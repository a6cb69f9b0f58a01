#ifndef TESTS_BLOCKMAP_MAP_MAP_STORE_FIXTURE_H_
#define TESTS_BLOCKMAP_MAP_MAP_STORE_FIXTURE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "blockmap/map/map_store.h"
#include "tests/support/map_fixture.h"
#include "tests/support/memory_device.h"

namespace bootstream {

// A new map on a disk in memory, as MapFixture makes it, and short words for
// what tests do with one.
inline constexpr uint64_t kFull = 0xffff;

inline PlacementWish ForChunk(uint64_t chunk) {
  return {PlacementWish::For::kImageChunk, ImageChunk{chunk}};
}
inline constexpr PlacementWish kForSource = {PlacementWish::For::kSource,
                                             ImageChunk{}};

inline DiskChunk Place(MapStore& store, uint64_t chunk, uint64_t dirty = 0) {
  const auto at = store.Allocate(ForChunk(chunk));
  EXPECT_TRUE(at);
  store.SetChunk(ImageChunk{chunk}, {Location::At(*at), kFull, dirty});
  return *at;
}

inline bool IsAbsent(const MapStore& store, uint64_t chunk) {
  return store.map().Get(ImageChunk{chunk}).location.is_absent();
}

inline Status Commit(MapStore& store) { return RunInline(store.Commit()); }

inline ChunkUse UseOf(const MapStore& store, DiskChunk chunk) {
  return store.region().OccupantOf(chunk).use;
}

class MapStoreTest : public testing::Test {
 protected:
  MapStoreTest() : device_(MapFixture::kDiskBytes) {
    store_ = MapFixture::Create(device_);
  }
  // Forget what is in memory.
  void Reopen() {
    store_.reset();
    auto store = MapFixture::Open(device_);
    ASSERT_TRUE(store) << store.error().message;
    store_ = std::move(*store);
  }
  Error OpenError() {
    store_.reset();
    auto store = MapFixture::Open(device_);
    EXPECT_FALSE(store);
    return store ? Error{ErrorCode::kIo, ""} : store.error();
  }
  // Into the slot of `chunk` that its sequence belongs to.
  void Put(const Superblock& superblock, DiskChunk chunk) {
    const auto block = EncodeSuperblock(superblock);
    ASSERT_TRUE(block);
    std::copy(block->begin(), block->end(),
              device_.bytes().begin() + chunk.value * MapFixture::kChunk +
                  superblock.sequence % kSuperblockSlots * kSuperblockBytes);
  }
  void Damage(uint64_t offset, uint64_t size) {
    const std::vector<std::byte> junk(size, std::byte{0x99});
    std::memcpy(device_.bytes().data() + offset, junk.data(), size);
  }

  MemoryDevice device_;
  std::unique_ptr<MapStore> store_;
};

}  // namespace bootstream

#endif  // TESTS_BLOCKMAP_MAP_MAP_STORE_FIXTURE_H_
