#include <algorithm>

#include "tests/blockmap/map/map_store_fixture.h"

namespace bootstream {
namespace {

class MapStoreAnchorTest : public MapStoreTest {
 protected:
  static constexpr uint64_t kChunkNumber = 152;
  static constexpr uint64_t kOffset = kChunkNumber * MapFixture::kChunk;
  Result<Anchor> OnDisk() {
    return DecodeAnchor(device_.bytes().subspan(kOffset, kAnchorBytes));
  }
};

TEST_F(MapStoreAnchorTest, IsWrittenAndItsChunkIsTaken) {
  ASSERT_TRUE(RunInline(store_->WriteAnchor(kOffset)));
  const auto anchor = OnDisk();
  ASSERT_TRUE(anchor);
  EXPECT_EQ(anchor->superblock_chunks, store_->superblock().superblock_chunks);
  Reopen();
  EXPECT_EQ(store_->superblock().anchor_offset, kOffset);
  EXPECT_EQ(UseOf(*store_, DiskChunk{kChunkNumber}), ChunkUse::kMetadata);
}

TEST_F(MapStoreAnchorTest, EitherSectorIsEnough) {
  for (uint64_t sequence = 2; sequence < 8; sequence += 2) {
    ASSERT_TRUE(RunInline(store_->WriteAnchor(kOffset)));
    EXPECT_EQ(OnDisk()->sequence, sequence);
    for (const uint64_t lost : {sequence, sequence - 1}) {
      const std::vector<std::byte> kept(device_.bytes().begin(),
                                        device_.bytes().end());
      Damage(kOffset + lost % 2 * 2048 + 50, 1);
      ASSERT_TRUE(OnDisk());
      EXPECT_EQ(OnDisk()->sequence, sequence - (lost == sequence ? 1 : 0));
      EXPECT_EQ(OnDisk()->superblock_chunks,
                store_->superblock().superblock_chunks);
      std::copy(kept.begin(), kept.end(), device_.bytes().begin());
    }
  }
}

TEST_F(MapStoreAnchorTest, ReplacesThatOfAnEarlierMigration) {
  Anchor old;
  old.sequence = 1000;
  old.superblock_chunks = {DiskChunk{1}, DiskChunk{2}};
  const auto sector = EncodeAnchor(old);
  for (const uint64_t at : {0, 2048}) {
    std::copy(sector.begin(), sector.end(),
              device_.bytes().begin() + kOffset + at);
  }
  ASSERT_TRUE(RunInline(store_->WriteAnchor(kOffset)));
  EXPECT_EQ(OnDisk()->migration_id, store_->superblock().migration_id);
}

TEST_F(MapStoreAnchorTest, NewerFormatIsNotReplaced) {
  Anchor newer;
  newer.sequence = 1000;
  newer.features.refuse = uint64_t{1} << 40;
  newer.superblock_chunks = {DiskChunk{1}, DiskChunk{2}};
  const auto sector = EncodeAnchor(newer);
  for (const uint64_t at : {0, 2048}) {
    std::copy(sector.begin(), sector.end(),
              device_.bytes().begin() + kOffset + at);
  }
  const Status written = RunInline(store_->WriteAnchor(kOffset));
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ErrorCode::kUnsupported);
  for (const uint64_t at : {0, 2048}) {
    EXPECT_TRUE(std::equal(sector.begin(), sector.end(),
                           device_.bytes().begin() + kOffset + at));
  }
}

TEST_F(MapStoreAnchorTest, ClearedLeavesNothingAndFreesItsChunk) {
  ASSERT_TRUE(RunInline(store_->ClearAnchor()));  // there is none
  ASSERT_TRUE(RunInline(store_->WriteAnchor(kOffset)));
  ASSERT_TRUE(RunInline(store_->ClearAnchor()));
  EXPECT_EQ(OnDisk().error().code, ErrorCode::kNotFound);
  EXPECT_EQ(UseOf(*store_, DiskChunk{kChunkNumber}), ChunkUse::kFree);
  Reopen();
  EXPECT_EQ(store_->superblock().anchor_offset, kNone);
}

TEST_F(MapStoreAnchorTest, IsRefusedWhereThereIsNoPlaceForIt) {
  const auto code = [&](uint64_t offset) {
    const auto status = RunInline(store_->WriteAnchor(offset));
    return status ? ErrorCode::kIo : status.error().code;
  };
  const DiskChunk in_use = store_->superblock().manifest_chunk;
  EXPECT_EQ(code(in_use.value * MapFixture::kChunk), ErrorCode::kInvalid);
  EXPECT_EQ(code(20 * MapFixture::kChunk), ErrorCode::kInvalid);  // not ours
  EXPECT_EQ(code(kOffset + 512), ErrorCode::kInvalid);
  EXPECT_EQ(code(~uint64_t{4095}), ErrorCode::kInvalid);
  ASSERT_TRUE(RunInline(store_->WriteAnchor(kOffset)));
  EXPECT_EQ(code(kOffset + MapFixture::kChunk), ErrorCode::kInvalid);
}

}  // namespace
}  // namespace bootstream
