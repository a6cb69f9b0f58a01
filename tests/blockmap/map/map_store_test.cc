#include "blockmap/map/map_store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <random>
#include <set>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/map/checkpoint.h"
#include "tests/support/crash_device.h"
#include "tests/support/map_fixture.h"
#include "tests/support/memory_device.h"

namespace bootstream {
namespace {

constexpr uint64_t kFull = 0xffff;

PlacementWish ForChunk(uint64_t chunk) {
  return {PlacementWish::For::kImageChunk, ImageChunk{chunk}};
}
constexpr PlacementWish kForSource = {PlacementWish::For::kSource,
                                      ImageChunk{}};

DiskChunk Place(MapStore& store, uint64_t chunk, uint64_t dirty = 0) {
  const auto at = store.Allocate(ForChunk(chunk));
  EXPECT_TRUE(at);
  store.SetChunk(ImageChunk{chunk}, {Location::At(*at), kFull, dirty});
  return *at;
}

bool IsAbsent(const MapStore& store, uint64_t chunk) {
  return store.map().Get(ImageChunk{chunk}).location.is_absent();
}

Status Commit(MapStore& store) { return RunInline(store.Commit()); }

ChunkUse UseOf(const MapStore& store, DiskChunk chunk) {
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
  void Damage(uint64_t offset, uint64_t size) {
    const std::vector<std::byte> junk(size, std::byte{0x99});
    std::memcpy(device_.bytes().data() + offset, junk.data(), size);
  }

  MemoryDevice device_;
  std::unique_ptr<MapStore> store_;
};

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
  EXPECT_EQ(UseOf(*store_, source), ChunkUse::kFree);
  EXPECT_EQ(UseOf(*store_, *now), ChunkUse::kSource);

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

TEST_F(MapStoreTest, ManifestComesBackAsItWas) {
  const auto manifest =
      RunInline(MapStore::ReadManifest(device_, store_->superblock()));
  ASSERT_TRUE(manifest);
  EXPECT_EQ(*manifest, MapFixture::Options().manifest_file);
  Damage(store_->superblock().manifest_chunk.value * MapFixture::kChunk + 5000,
         1);
  EXPECT_EQ(RunInline(MapStore::ReadManifest(device_, store_->superblock()))
                .error()
                .code,
            ErrorCode::kCorrupt);
}

TEST_F(MapStoreTest, UpdateSuperblockChangesFieldsAndKeepsPlaces) {
  const Superblock before = store_->superblock();
  ASSERT_TRUE(RunInline(store_->UpdateSuperblock([](Superblock& sb) {
    sb.phase = Phase::kStreaming;
    sb.checkpoint_chunk = DiskChunk{1};
    sb.next_epoch = 0;
  })));
  Reopen();
  EXPECT_EQ(store_->superblock().phase, Phase::kStreaming);
  EXPECT_EQ(store_->superblock().checkpoint_chunk, before.checkpoint_chunk);
  EXPECT_EQ(store_->superblock().sequence, before.sequence + 1);
}

TEST_F(MapStoreTest, SuperblockThatDoesNotFitIsRefusedAndLifeGoesOn) {
  const auto status = RunInline(store_->UpdateSuperblock(
      [](Superblock& sb) { sb.network = std::string(5000, 'x'); }));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kInvalid);
  Place(*store_, 10);
  EXPECT_TRUE(Commit(*store_));
}

TEST_F(MapStoreTest, SuperblockBeforeTheNewestIsThereWhenBothCopiesAreTorn) {
  for (uint64_t boots = 1; boots < 5; ++boots) {
    ASSERT_TRUE(RunInline(store_->UpdateSuperblock(
        [boots](Superblock& sb) { sb.boots_total = boots; })));
    const std::vector<std::byte> kept(device_.bytes().begin(),
                                      device_.bytes().end());
    const Superblock sb = store_->superblock();
    for (const DiskChunk chunk : sb.superblock_chunks) {
      Damage(chunk.value * MapFixture::kChunk +
                 sb.sequence % kSuperblockSlots * kSuperblockBytes + 300,
             100);
    }
    const auto before = RunInline(MapStore::ReadSuperblock(
        device_, MapFixture::kChunk, sb.superblock_chunks));
    ASSERT_TRUE(before) << before.error().message;
    EXPECT_EQ(before->boots_total, boots - 1);
    std::copy(kept.begin(), kept.end(), device_.bytes().begin());
  }
}

TEST_F(MapStoreTest, OneSuperblockChunkIsEnough) {
  ASSERT_TRUE(RunInline(
      store_->UpdateSuperblock([](Superblock& sb) { sb.boots_total = 7; })));
  for (const DiskChunk chunk : store_->superblock().superblock_chunks) {
    const std::vector<std::byte> kept(device_.bytes().begin(),
                                      device_.bytes().end());
    Damage(chunk.value * MapFixture::kChunk, MapFixture::kChunk);
    const auto found = RunInline(MapStore::ReadSuperblock(
        device_, MapFixture::kChunk, store_->superblock().superblock_chunks));
    ASSERT_TRUE(found);
    EXPECT_EQ(found->boots_total, 7U);
    std::copy(kept.begin(), kept.end(), device_.bytes().begin());
  }
}

TEST_F(MapStoreTest, NoSuperblockIsNotFoundAndADamagedOneIsCorrupt) {
  const auto order = MapFixture::ScanOrder();
  const auto scan = [&](BlockDevice& device) {
    return RunInline(
        MapStore::ScanForSuperblock(device, MapFixture::kChunk, order));
  };
  MemoryDevice empty(MapFixture::kDiskBytes);
  EXPECT_EQ(scan(empty).error().code, ErrorCode::kNotFound);
  for (const DiskChunk chunk : store_->superblock().superblock_chunks) {
    Damage(chunk.value * MapFixture::kChunk + 100, 1);
    Damage(chunk.value * MapFixture::kChunk + kSuperblockBytes + 100, 1);
  }
  EXPECT_EQ(scan(device_).error().code, ErrorCode::kCorrupt);
}

TEST_F(MapStoreTest, FirstSuperblockThatWasTornIsNone) {
  for (const DiskChunk chunk : store_->superblock().superblock_chunks) {
    Damage(chunk.value * MapFixture::kChunk + kSuperblockBytes + 600, 512);
  }
  const auto order = MapFixture::ScanOrder();
  const auto found = RunInline(
      MapStore::ScanForSuperblock(device_, MapFixture::kChunk, order));
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, ErrorCode::kNotFound) << found.error().message;
}

TEST_F(MapStoreTest, SuperblockOfAnEarlierMigrationIsNotFoundAgain) {
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(RunInline(store_->UpdateSuperblock([](Superblock&) {})));
  }
  store_.reset();
  auto options = MapFixture::Options();
  options.superblock.migration_id.fill(std::byte{0x77});
  // The old superblocks' places are beyond this image, and so come last.
  options.image.is_zero = [](ImageChunk chunk) { return chunk.value == 90; };
  options.superblock.image_bytes = options.image.grid.size_bytes;
  ASSERT_TRUE(RunInline(MapStore::Create(device_, options)));
  const auto order = MapFixture::ScanOrder();
  const auto found = RunInline(
      MapStore::ScanForSuperblock(device_, MapFixture::kChunk, order));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->migration_id, options.superblock.migration_id);
}

TEST_F(MapStoreTest, RandomMigrationIdIsGivenWhereThereIsNone) {
  auto options = MapFixture::Options();
  options.superblock.migration_id = {};
  MemoryDevice other(MapFixture::kDiskBytes);
  const auto a = RunInline(MapStore::Create(device_, options));
  const auto b = RunInline(MapStore::Create(other, options));
  ASSERT_TRUE(a && b);
  EXPECT_NE((*a)->superblock().migration_id, (*b)->superblock().migration_id);
}

TEST_F(MapStoreTest, NewerFormatIsRefusedAndClearBitsAreCleared) {
  Superblock sb = store_->superblock();
  const auto put = [&](const FeatureMasks& features) {
    sb.features = features;
    ++sb.sequence;
    const auto block = EncodeSuperblock(sb);
    for (const DiskChunk chunk : sb.superblock_chunks) {
      std::copy(block->begin(), block->end(),
                device_.bytes().begin() + chunk.value * MapFixture::kChunk +
                    sb.sequence % 2 * kSuperblockBytes);
    }
  };
  put({0, 4, 8});
  Reopen();
  EXPECT_EQ(store_->superblock().features, (FeatureMasks{0, 4, 0}));
  sb = store_->superblock();
  put({1, 0, 0});
  EXPECT_EQ(OpenError().code, ErrorCode::kUnsupported);
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
  EXPECT_LT(store_->patch_room_bytes(), 2 * 61440 - data.size());
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

// --- What the superblock leads to is not right ---

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

// --- The anchor ---

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

TEST_F(MapStoreAnchorTest, RewritingAlternatesSectors) {
  for (uint64_t sequence = 1; sequence < 5; ++sequence) {
    ASSERT_TRUE(RunInline(store_->WriteAnchor(kOffset)));
    EXPECT_EQ(OnDisk()->sequence, sequence);
    const std::vector<std::byte> kept(device_.bytes().begin(),
                                      device_.bytes().end());
    Damage(kOffset + sequence % 2 * 2048 + 50, 1);
    EXPECT_EQ(OnDisk().has_value(), sequence > 1);
    std::copy(kept.begin(), kept.end(), device_.bytes().begin());
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
