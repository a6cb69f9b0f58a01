// What the superblock leads to is not right.

#include <algorithm>
#include <functional>

#include "blockmap/map/checkpoint.h"
#include "tests/blockmap/map/map_store_fixture.h"

namespace bootstream {
namespace {

TEST_F(MapStoreTest, MapThatContradictsItselfIsCorrupt) {
  auto region = MapFixture::RegionExtents();
  const auto with = [&](const std::function<void(BlockMap&)>& fill) {
    BlockMap map;
    fill(map);
    const auto bytes = EncodeCheckpoint(map, region);
    const Superblock& sb = store_->superblock();
    const std::vector<DiskChunk> chunks = {sb.checkpoint_chunk};
    const ChainName name{ChainKind::kCheckpoint, sb.migration_id,
                         sb.checkpoint_epoch};
    EXPECT_TRUE(RunInline(
        WriteChain(device_, MapFixture::kChunk, name, chunks, bytes)));
    const auto store = MapFixture::Open(device_);
    EXPECT_FALSE(store);
    return store ? Error{ErrorCode::kIo, ""} : store.error();
  };
  const auto at = [](uint64_t chunk) {
    return ChunkState{Location::At(DiskChunk{chunk}), 1, 0};
  };
  const std::vector<std::function<void(BlockMap&)>> bad = {
      [&](BlockMap& m) {  // two users
        m.Set(ImageChunk{1}, at(60));
        m.Set(ImageChunk{2}, at(60));
      },
      [&](BlockMap& m) { m.Set(ImageChunk{1}, at(20)); },  // the source's
      [&](BlockMap& m) {  // the superblock's own
        m.Set(ImageChunk{1},
              at(store_->superblock().superblock_chunks[0].value));
      },
      [&](BlockMap& m) {  // never was the source's
        m.SetRelocation(DiskChunk{60}, DiskChunk{61});
      },
      [&](BlockMap& m) {  // to a chunk that is not ours
        m.SetRelocation(DiskChunk{1}, DiskChunk{2});
      },
      [&](BlockMap& m) { m.Set(ImageChunk{96}, at(60)); },   // no such chunk
      [&](BlockMap& m) { m.Set(ImageChunk{1}, at(1000)); },  // no such place
  };
  for (const auto& fill : bad) {
    const Error error = with(fill);
    EXPECT_EQ(error.code, ErrorCode::kCorrupt) << error.message;
  }
  --region.back().count;
  EXPECT_EQ(with([](BlockMap&) {}).code, ErrorCode::kCorrupt);
}

TEST_F(MapStoreTest, DamagedJournalHeaderOrCheckpointIsCorrupt) {
  const Superblock sb = store_->superblock();
  for (const DiskChunk chunk :
       {sb.journal_chunk, sb.checkpoint_chunk, sb.manifest_chunk}) {
    const std::vector<std::byte> kept(device_.bytes().begin(),
                                      device_.bytes().end());
    Damage(chunk.value * MapFixture::kChunk + 20, 1);
    EXPECT_EQ(OpenError().code, ErrorCode::kCorrupt);
    std::copy(kept.begin(), kept.end(), device_.bytes().begin());
  }
}

TEST_F(MapStoreTest, AnotherDiskOrImageIsNotOpened) {
  const Superblock sb = store_->superblock();
  MemoryDevice smaller(std::vector<std::byte>(
      device_.bytes().begin(), device_.bytes().begin() + (100 << 16)));
  EXPECT_FALSE(RunInline(MapStore::Open(smaller, sb, MapFixture::Facts())));
  ImageFacts other = MapFixture::Facts();
  other.grid.size_bytes += kBlockBytes;
  const auto store = RunInline(MapStore::Open(device_, sb, other));
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().code, ErrorCode::kInvalid);
}

}  // namespace
}  // namespace bootstream
