// The superblock and what it keeps: fields, copies, the manifest.

#include <algorithm>

#include "tests/blockmap/map/map_store_fixture.h"
#include "tests/support/crash_device.h"

namespace bootstream {
namespace {

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

// The newest superblock is lost in both places, and with the end of the old
// journal what led to the new one: its epoch is given again, in the same place.
TEST_F(MapStoreTest, JournalThatNothingLeadsToAnyMoreDoesNotComeBack) {
  const Superblock before = store_->superblock();
  ASSERT_TRUE(RunInline(store_->Checkpoint()));
  Place(*store_, 10);
  ASSERT_TRUE(Commit(*store_));
  const Superblock lost = store_->superblock();
  for (const DiskChunk chunk : lost.superblock_chunks) {
    Damage(chunk.value * MapFixture::kChunk +
               lost.sequence % kSuperblockSlots * kSuperblockBytes,
           kSuperblockBytes);
  }
  Damage(before.journal_chunk.value * MapFixture::kChunk + kChainHeaderBytes,
         kBlockBytes);
  Reopen();
  ASSERT_EQ(store_->superblock().sequence, before.sequence);
  ASSERT_TRUE(RunInline(store_->Checkpoint()));
  ASSERT_EQ(store_->superblock().journal_epoch, lost.journal_epoch);
  ASSERT_EQ(store_->superblock().journal_chunk, lost.journal_chunk);
  const std::string now = Describe(store_->map());
  Reopen();
  EXPECT_EQ(Describe(store_->map()), now);
}

// The next superblock is written over the torn one, with the same sequence,
// and may be torn in its turn.
TEST_F(MapStoreTest, TornSuperblockDoesNotBecomeWholeByTheNextOne) {
  ASSERT_TRUE(RunInline(
      store_->UpdateSuperblock([](Superblock& sb) { sb.boots_total = 1; })));
  const Superblock sb = store_->superblock();
  const std::vector<std::byte> kept(device_.bytes().begin(),
                                    device_.bytes().end());
  const auto last_sector = [&](DiskChunk chunk) {
    return chunk.value * MapFixture::kChunk +
           sb.sequence % kSuperblockSlots * kSuperblockBytes +
           kSuperblockBytes - kSectorBytes;
  };
  for (const DiskChunk chunk : sb.superblock_chunks) {
    Damage(last_sector(chunk), kSectorBytes);
  }
  Reopen();
  ASSERT_EQ(store_->superblock().boots_total, 0U);
  for (const DiskChunk chunk : sb.superblock_chunks) {
    std::copy_n(kept.begin() + last_sector(chunk), kSectorBytes,
                device_.bytes().begin() + last_sector(chunk));
  }
  const auto found = RunInline(MapStore::ReadSuperblock(
      device_, MapFixture::kChunk, sb.superblock_chunks));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->boots_total, 0U);
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
    return RunInline(MapStore::ScanForSuperblock(device, MapFixture::kChunk,
                                                 MapFixture::Id(), order));
  };
  MemoryDevice empty(MapFixture::kDiskBytes);
  EXPECT_EQ(scan(empty).error().code, ErrorCode::kNotFound);
  for (const DiskChunk chunk : store_->superblock().superblock_chunks) {
    Damage(chunk.value * MapFixture::kChunk + 100, 1);
    Damage(chunk.value * MapFixture::kChunk + kSuperblockBytes + 100, 1);
  }
  EXPECT_EQ(scan(device_).error().code, ErrorCode::kCorrupt);
}

// Other migrations' superblocks in whatever state, in space that was free.
TEST_F(MapStoreTest, ScanLeavesOtherMigrationsAlone) {
  Uuid other;
  other.fill(std::byte{0x77});
  const Superblock current = store_->superblock();
  const auto scan = [&](const Uuid& id) {
    const auto order = MapFixture::ScanOrder();
    return RunInline(
        MapStore::ScanForSuperblock(device_, MapFixture::kChunk, id, order));
  };
  EXPECT_EQ(scan(other).error().code, ErrorCode::kNotFound);
  for (const uint64_t at : {40, 120}) {
    const DiskChunk chunk{at};
    ASSERT_EQ(UseOf(*store_, chunk), ChunkUse::kFree);
    Superblock stale = current;
    stale.migration_id = other;
    stale.sequence += 10;
    stale.superblock_chunks = {chunk, DiskChunk{at + 1}};
    Put(stale, chunk);
    ASSERT_TRUE(scan(MapFixture::Id()));
    EXPECT_EQ(scan(MapFixture::Id())->sequence, current.sequence);
    EXPECT_EQ(scan(other)->sequence, stale.sequence);
    Damage(chunk.value * MapFixture::kChunk +
               stale.sequence % kSuperblockSlots * kSuperblockBytes + 600,
           1);
    EXPECT_EQ(scan(MapFixture::Id())->sequence, current.sequence);
    EXPECT_EQ(scan(other).error().code, ErrorCode::kCorrupt);
    stale.features.refuse = 1;
    Put(stale, chunk);
    EXPECT_EQ(scan(MapFixture::Id())->sequence, current.sequence);
    EXPECT_EQ(scan(other).error().code, ErrorCode::kUnsupported);
    Damage(chunk.value * MapFixture::kChunk, kSuperblockSlotsBytes);
  }
  for (const DiskChunk chunk : current.superblock_chunks) {
    Damage(chunk.value * MapFixture::kChunk, kSuperblockSlotsBytes);
  }
  EXPECT_EQ(scan(MapFixture::Id()).error().code, ErrorCode::kNotFound);
}

TEST_F(MapStoreTest, NewMapTakesAnOldOnesPlaces) {
  store_.reset();
  auto options = MapFixture::Options();
  options.superblock.migration_id.fill(std::byte{0x77});
  ASSERT_TRUE(RunInline(MapStore::Create(device_, options)));
  const auto order = MapFixture::ScanOrder();
  const auto found = RunInline(MapStore::ScanForSuperblock(
      device_, MapFixture::kChunk, options.superblock.migration_id, order));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->sequence, 1U);
}

// Newer than what counts, and whole, but not where it says that it is.
Superblock StrayOf(const Superblock& current) {
  Superblock stray = current;
  stray.sequence += 2;
  stray.boots_total = 1000;
  stray.superblock_chunks = {DiskChunk{130}, DiskChunk{131}};
  return stray;
}

TEST_F(MapStoreTest, SuperblockInAChunkThatItDoesNotNameIsNotRead) {
  const Superblock current = store_->superblock();
  Put(StrayOf(current), current.superblock_chunks[0]);
  const auto found = RunInline(MapStore::ReadSuperblock(
      device_, MapFixture::kChunk, current.superblock_chunks));
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->sequence, current.sequence);
  EXPECT_EQ(found->boots_total, current.boots_total);
}

TEST_F(MapStoreTest, ScanPassesAStraySuperblockOver) {
  const Superblock current = store_->superblock();
  constexpr DiskChunk kOfAFile{40};
  ASSERT_EQ(UseOf(*store_, kOfAFile), ChunkUse::kFree);
  Put(StrayOf(current), kOfAFile);
  std::vector<DiskChunk> order = {kOfAFile};
  const auto rest = MapFixture::ScanOrder();
  order.insert(order.end(), rest.begin(), rest.end());
  const auto found = RunInline(MapStore::ScanForSuperblock(
      device_, MapFixture::kChunk, MapFixture::Id(), order));
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->sequence, current.sequence);
}

// A move that ends between the two copies of the new superblock leaves nothing
// in a chunk that is free again: later moves would leave it the only one that a
// scan finds.
TEST_F(MapStoreTest, MoveThatWasCutOffLeavesNoSuperblockBehind) {
  for (uint64_t writes = 1; writes < 6; ++writes) {
    SCOPED_TRACE(writes);
    CrashDevice device(MapFixture::kDiskBytes);
    auto store = MapFixture::Create(device);
    device.StopAtWrite(writes);
    const DiskChunk first = store->superblock().superblock_chunks[0];
    (void)RunInline(store->MoveMetadata(first));
    device.GoOn();
    auto reopened = MapFixture::Open(device);
    ASSERT_TRUE(reopened) << reopened.error().message;
    store = std::move(*reopened);
    // Somebody has the chunks up to there, and has written nothing yet.
    for (DiskChunk taken; taken.value < 150;) {
      const auto chunk = store->Allocate(kForSource, true);
      ASSERT_TRUE(chunk);
      taken = *chunk;
    }
    for (int i = 0; i < 4; ++i) {
      const DiskChunk from =
          store->superblock().superblock_chunks[static_cast<size_t>(i % 2)];
      ASSERT_TRUE(RunInline(store->MoveMetadata(from)));
    }
    ASSERT_TRUE(RunInline(store->UpdateSuperblock(
        [](Superblock& superblock) { superblock.boots_total = 7; })));
    const auto found = MapFixture::Open(device);
    ASSERT_TRUE(found) << found.error().message;
    EXPECT_EQ((*found)->superblock().sequence, store->superblock().sequence);
    EXPECT_EQ((*found)->superblock().boots_total, 7U);
  }
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
    for (const DiskChunk chunk : sb.superblock_chunks) Put(sb, chunk);
  };
  put({0, 4, 8});
  Reopen();
  EXPECT_EQ(store_->superblock().features, (FeatureMasks{0, 4, 0}));
  sb = store_->superblock();
  put({1, 0, 0});
  EXPECT_EQ(OpenError().code, ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace bootstream
