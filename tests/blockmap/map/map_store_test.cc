#include "blockmap/map/map_store.h"

#include <algorithm>
#include <string>

#include "tests/blockmap/map/map_store_fixture.h"

namespace bootstream {
namespace {

TEST_F(MapStoreTest, WhatWasCommittedIsThereAfterOpening) {
  const DiskChunk at = Place(*store_, 10, 0x3);
  EXPECT_TRUE(store_->has_changes());
  ASSERT_TRUE(Commit(*store_));
  EXPECT_FALSE(store_->has_changes());
  Reopen();
  EXPECT_EQ(store_->map().Get(ImageChunk{10}),
            (ChunkState{Location::At(at), kFull, 0x3}));
  EXPECT_EQ(UseOf(*store_, at), ChunkUse::kImage);
  EXPECT_EQ(store_->region().OccupantOf(at).number, 10U);
}

TEST_F(MapStoreTest, WhatWasNotCommittedIsForgotten) {
  const DiskChunk at = Place(*store_, 10);
  Reopen();
  EXPECT_TRUE(IsAbsent(*store_, 10));
  EXPECT_EQ(UseOf(*store_, at), ChunkUse::kFree);
}

TEST_F(MapStoreTest, FreedChunkIsReusedOnlyAfterTheCommit) {
  const DiskChunk at = Place(*store_, 10);
  ASSERT_TRUE(Commit(*store_));
  store_->SetChunk(ImageChunk{10}, ChunkState{});
  EXPECT_EQ(UseOf(*store_, at), ChunkUse::kReserved);
  EXPECT_FALSE(store_->AllocateAt(at));
  ASSERT_TRUE(Commit(*store_));
  EXPECT_TRUE(store_->AllocateAt(at));
}

TEST_F(MapStoreTest, PlaceOfARelocatedChunkJoinsAndIsFreeAfterTheCommit) {
  const DiskChunk source{20};
  EXPECT_FALSE(store_->region().IsOurs(source));
  const auto now = store_->Allocate(kForSource);
  ASSERT_TRUE(now);
  store_->SetRelocation(source, *now);
  EXPECT_EQ(UseOf(*store_, source), ChunkUse::kReserved);
  store_->Release(source);
  EXPECT_EQ(UseOf(*store_, source), ChunkUse::kReserved);
  ASSERT_TRUE(Commit(*store_));
  EXPECT_EQ(UseOf(*store_, source), ChunkUse::kFree);
  Reopen();
  EXPECT_EQ(store_->map().Relocated(source), now);
  EXPECT_EQ(UseOf(*store_, *now), ChunkUse::kSource);
  // The source may boot again until the target does.
  EXPECT_EQ(UseOf(*store_, source), ChunkUse::kReserved);
  ASSERT_TRUE(RunInline(store_->UpdateSuperblock(
      [](Superblock& block) { block.phase = Phase::kArmed; })));
  Reopen();
  EXPECT_EQ(UseOf(*store_, source), ChunkUse::kFree);

  ASSERT_TRUE(store_->AllocateAt(source));
  store_->SetRelocation(source, std::nullopt);
  EXPECT_FALSE(store_->region().IsOurs(source));
  EXPECT_EQ(UseOf(*store_, *now), ChunkUse::kReserved);
  ASSERT_TRUE(Commit(*store_));
  EXPECT_EQ(UseOf(*store_, *now), ChunkUse::kFree);
}

TEST_F(MapStoreTest, CommitIsTwoFlushesAndOneWrite) {
  Place(*store_, 10);
  const uint64_t flushes = device_.flush_count();
  const uint64_t writes = device_.write_count();
  ASSERT_TRUE(Commit(*store_));
  EXPECT_EQ(device_.flush_count() - flushes, 2U);
  EXPECT_EQ(device_.write_count() - writes, 1U);
}

TEST_F(MapStoreTest, CommitWithoutChangesIsOneFlush) {
  const uint64_t flushes = device_.flush_count();
  const uint64_t writes = device_.write_count();
  ASSERT_TRUE(Commit(*store_));
  EXPECT_EQ(device_.flush_count() - flushes, 1U);
  EXPECT_EQ(device_.write_count() - writes, 0U);
}

TEST_F(MapStoreTest, ReadOnlyNeverWrites) {
  Place(*store_, 10);
  ASSERT_TRUE(Commit(*store_));
  store_.reset();
  const uint64_t flushes = device_.flush_count();
  const uint64_t writes = device_.write_count();
  auto store = MapFixture::Open(device_, /*read_only=*/true);
  ASSERT_TRUE(store);
  EXPECT_FALSE(IsAbsent(**store, 10));
  EXPECT_FALSE((*store)->Allocate(ForChunk(11)));
  EXPECT_EQ(Commit(**store).error().code, ErrorCode::kRefused);
  EXPECT_EQ(RunInline((*store)->Checkpoint()).error().code,
            ErrorCode::kRefused);
  EXPECT_EQ(
      RunInline((*store)->UpdateSuperblock([](Superblock&) {})).error().code,
      ErrorCode::kRefused);
  EXPECT_EQ(device_.flush_count(), flushes);
  EXPECT_EQ(device_.write_count(), writes);
}

TEST_F(MapStoreTest, ManyCommitsGoOnInFreshJournals) {
  std::string last;
  for (uint64_t i = 0; i < 200; ++i) {
    store_->SetChunk(
        ImageChunk{i % 90},
        i % 3 == 0 ? ChunkState{} : ChunkState{Location::Zero(), 0, 0});
    store_->AddPatch(ImageChunk{91}, {8, {std::byte(i), std::byte{1}}});
    ASSERT_TRUE(Commit(*store_));
    last = Describe(store_->map());
  }
  EXPECT_GT(store_->superblock().checkpoint_epoch, 10U);
  Reopen();
  EXPECT_EQ(Describe(store_->map()), last);
}

TEST_F(MapStoreTest, CommitLargerThanAJournalIsOneCommit) {
  for (uint64_t i = 0; i < 9000; ++i) {
    store_->SetChunk(
        ImageChunk{i % 90},
        i / 90 % 2 == 0 ? ChunkState{Location::Zero(), 0, 0} : ChunkState{});
  }
  Place(*store_, 91);
  const std::string now = Describe(store_->map());
  ASSERT_TRUE(Commit(*store_));
  Reopen();
  EXPECT_EQ(Describe(store_->map()), now);
  // The long journal has been given back.
  ASSERT_TRUE(RunInline(store_->Checkpoint()));
  Reopen();
  EXPECT_EQ(Describe(store_->map()), now);
}

TEST_F(MapStoreTest, FullRegionCanStillBeCommittedAndCheckpointed) {
  uint64_t placed = 0;
  for (uint64_t i = 0; i < MapFixture::kImageChunks - 1; ++i) {
    const auto at = store_->Allocate(ForChunk(i), /*use_spare=*/true);
    if (!at) break;
    store_->SetChunk(ImageChunk{i}, {Location::At(*at), kFull, 0});
    ++placed;
  }
  // Homes that the region does not have go on until it is full.
  while (const auto now = store_->Allocate(kForSource, /*use_spare=*/true)) {
    store_->SetRelocation(DiskChunk{placed % 40}, *now);
    ++placed;
    ASSERT_TRUE(Commit(*store_));
  }
  EXPECT_FALSE(store_->Allocate(ForChunk(MapFixture::kImageChunks - 1), true));
  for (int i = 0; i < 30; ++i) {
    store_->AddPatch(ImageChunk{MapFixture::kImageChunks - 1},
                     {0, {std::byte(i)}});
    ASSERT_TRUE(RunInline(store_->Checkpoint()));
  }
  const std::string now = Describe(store_->map());
  Reopen();
  EXPECT_EQ(Describe(store_->map()), now);
}

TEST_F(MapStoreTest, SpareChunksAreForThoseWhoMayUseThem) {
  const auto everything = [&](bool use_spare) {
    std::vector<DiskChunk> all;
    while (const auto at = store_->Allocate(kForSource, use_spare)) {
      all.push_back(*at);
    }
    return all;
  };
  const auto without = everything(false);
  const auto spare = everything(true);
  EXPECT_EQ(spare.size(), MapFixture::Options().spare_chunks);
  for (const DiskChunk chunk : without) store_->Release(chunk);
  for (const DiskChunk chunk : spare) store_->Release(chunk);
}

TEST_F(MapStoreTest, RegionOfExactlyTheMetadataIsEnough) {
  auto options = MapFixture::Options();
  const uint64_t needed =
      MapStore::MetadataChunks(options.image.grid, options.manifest_file.size(),
                               1, options.journal_chunks);
  options.region = {{100, needed}};
  options.superblock_order.clear();
  MemoryDevice device(MapFixture::kDiskBytes);
  EXPECT_TRUE(RunInline(MapStore::Create(device, options)));

  options.region = {{100, needed - 1}};
  MemoryDevice untouched(MapFixture::kDiskBytes);
  const auto store = RunInline(MapStore::Create(untouched, options));
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().code, ErrorCode::kNoSpace);
  EXPECT_EQ(untouched.write_count(), 0U);
}

TEST_F(MapStoreTest, CreateRefusesARegionThatMakesNoSense) {
  const std::vector<std::vector<DiskExtent>> bad = {
      {{60, 100}, {40, 10}},                 // not ascending
      {{40, 100}, {139, 20}},                // overlapping
      {{40, MapFixture::kDiskChunks}},       // beyond the disk
      {{40, 100}, {~uint64_t{0} - 2, 5}},    // overflowing
      {{MapFixture::kDiskChunks - 50, 51}},  // the short last chunk
  };
  for (const auto& region : bad) {
    auto options = MapFixture::Options();
    options.region = region;
    MemoryDevice device(MapFixture::kDiskBytes);
    const auto store = RunInline(MapStore::Create(device, options));
    ASSERT_FALSE(store);
    EXPECT_EQ(store.error().code, ErrorCode::kInvalid);
    EXPECT_EQ(device.write_count(), 0U);
  }
}

TEST_F(MapStoreTest, PatchesSurviveACheckpointAndLongOnesAreSplit) {
  const ImageChunk chunk{12};
  std::vector<std::byte> data(4095);
  for (size_t i = 0; i < data.size(); ++i) data[i] = std::byte(i * 7);
  store_->AddPatch(chunk, {kBlockBytes + 1, data});
  ASSERT_TRUE(Commit(*store_));
  ASSERT_TRUE(RunInline(store_->Checkpoint()));
  Reopen();
  std::vector<std::byte> base(MapFixture::kChunk);
  store_->map().Merge(chunk, kFull, base);
  EXPECT_TRUE(
      std::equal(data.begin(), data.end(), base.begin() + kBlockBytes + 1));
  EXPECT_LT(store_->patch_room_bytes(), uint64_t{2} * 61440 - data.size());
  store_->SetChunk(chunk, {Location::Zero(), 0, 0});
  EXPECT_FALSE(store_->map().has_patches());
}

TEST_F(MapStoreTest, MetadataMakesRoomForAnImageChunk) {
  constexpr uint64_t kAnchorAt = 152 * MapFixture::kChunk;
  ASSERT_TRUE(RunInline(store_->WriteAnchor(kAnchorAt)));
  Place(*store_, 60);
  ASSERT_TRUE(Commit(*store_));
  std::vector<DiskChunk> metadata;
  for (uint64_t i = 40; i < 170; ++i) {
    if (UseOf(*store_, DiskChunk{i}) == ChunkUse::kMetadata) {
      metadata.push_back(DiskChunk{i});
    }
  }
  EXPECT_EQ(metadata.size(), 7U);  // 2, manifest 2, checkpoint, journal, anchor
  for (const DiskChunk chunk : metadata) {
    // A checkpoint may have been here.
    if (UseOf(*store_, chunk) != ChunkUse::kMetadata) continue;
    const Status moved = RunInline(store_->MoveMetadata(chunk));
    if (chunk.value == 152) {
      EXPECT_EQ(moved.error().code, ErrorCode::kRefused);
      continue;
    }
    ASSERT_TRUE(moved) << moved.error().message;
    EXPECT_EQ(UseOf(*store_, chunk), ChunkUse::kReserved);
    store_->SetChunk(ImageChunk{61}, {Location::At(chunk), kFull, 0});
    ASSERT_TRUE(Commit(*store_));
    Damage(chunk.value * MapFixture::kChunk, MapFixture::kChunk);
    const std::string now = Describe(store_->map());
    const SuperblockChunks pair = store_->superblock().superblock_chunks;
    Reopen();
    EXPECT_EQ(Describe(store_->map()), now);
    const auto anchor =
        DecodeAnchor(device_.bytes().subspan(kAnchorAt, kAnchorBytes));
    EXPECT_EQ(anchor->superblock_chunks, pair);
  }
  EXPECT_EQ(
      RunInline(MapStore::ReadManifest(device_, store_->superblock())).value(),
      MapFixture::Options().manifest_file);
  EXPECT_EQ(RunInline(store_->MoveMetadata(DiskChunk{20})).error().code,
            ErrorCode::kInvalid);
}

// The uses of all chunks of the disk, in their order.
std::string UsesOf(const MapStore& store) {
  std::string uses;
  for (DiskChunk at; at.value < store.disk_grid().chunk_count(); ++at.value) {
    uses += std::to_string(static_cast<int>(UseOf(store, at)));
  }
  return uses;
}

TEST_F(MapStoreTest, SourceThatIsGivenUpLeavesTheWholeDisk) {
  const DiskChunk source{20};
  const DiskChunk foreign{5};
  const auto now = store_->Allocate(kForSource);
  store_->SetRelocation(source, *now);
  ASSERT_TRUE(Commit(*store_));
  store_->SetChunk(ImageChunk{20}, {Location::At(source), kFull, 0});
  const DiskChunk other = Place(*store_, 33, 0x1);
  store_->AddPatch(ImageChunk{2}, {100, std::vector<std::byte>(10)});
  ASSERT_TRUE(RunInline(store_->UpdateSuperblock(
      [](Superblock& block) { block.phase = Phase::kComplete; })));

  ASSERT_TRUE(RunInline(store_->GiveUpSource()));
  const std::string uses = UsesOf(*store_);
  Reopen();
  EXPECT_TRUE(store_->superblock().committed);
  EXPECT_EQ(store_->superblock().phase, Phase::kCommitted);
  EXPECT_EQ(store_->superblock().source_fs_offset, kNone);
  EXPECT_TRUE(store_->map().relocations().empty());
  EXPECT_EQ(store_->map().patch_count(), 1U);
  EXPECT_EQ(store_->region().chunk_count(), MapFixture::kDiskChunks + 1);
  EXPECT_EQ(UsesOf(*store_), uses);
  EXPECT_EQ(UseOf(*store_, foreign), ChunkUse::kFree);
  EXPECT_EQ(UseOf(*store_, source), ChunkUse::kImage);
  EXPECT_EQ(UseOf(*store_, other), ChunkUse::kImage);
  EXPECT_EQ(UseOf(*store_, *now), ChunkUse::kFree);
  EXPECT_EQ(RunInline(store_->GiveUpSource()).error().code,
            ErrorCode::kInvalid);
}

// The disk's last chunk is too short for any other than the one at home there.
TEST_F(MapStoreTest, ShortChunkOfAGivenUpSourceIsForNobodyElse) {
  ASSERT_TRUE(RunInline(store_->GiveUpSource()));
  const DiskChunk last{MapFixture::kDiskChunks};
  while (const auto at = store_->Allocate(ForChunk(50), true)) {
    EXPECT_NE(*at, last);
  }
  EXPECT_EQ(UseOf(*store_, last), ChunkUse::kFree);
}

}  // namespace
}  // namespace bootstream
