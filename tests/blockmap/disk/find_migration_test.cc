#include "blockmap/disk/find_migration.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/support/faulty_device.h"
#include "tests/support/map_fixture.h"
#include "tests/support/memory_device.h"

// Anchors and superblocks that are damaged, unreadable, stale, doubled or of
// another table: what is whole leads on; what is not is never taken for a disk
// without a migration.

namespace bootstream {
namespace {

constexpr uint64_t kChunk = MapFixture::kChunk;

class FindMigrationTest : public testing::Test {
 protected:
  static constexpr uint64_t kB = 786432;  // chunk 12
  const uint64_t a_ = AnchorCandidates(MapFixture::kDiskBytes)[0];

  FindMigrationTest() : memory_(MapFixture::kDiskBytes), device_(memory_) {
    target_.fill(std::byte{7});
    source_.fill(std::byte{6});
    store_ = MakeStore(0x42, {{40, 100}, {150, 30}});
    PutTable(target_);
  }

  std::unique_ptr<MapStore> MakeStore(uint8_t id,
                                      std::vector<DiskExtent> region) {
    MapStore::CreateOptions options = MapFixture::Options();
    options.superblock.migration_id.fill(std::byte{id});
    options.superblock.disk.source_table_id = source_;
    options.superblock.target_table_id = target_;
    options.superblock.phase = Phase::kArmed;
    options.superblock_order.clear();
    for (const DiskExtent& extent : region) {
      for (uint64_t i = extent.first; i < extent.end(); ++i) {
        options.superblock_order.push_back(DiskChunk{i});
      }
    }
    options.region = std::move(region);
    auto store = RunInline(MapStore::Create(device_, std::move(options)));
    EXPECT_TRUE(store) << store.error().message;
    return std::move(*store);
  }
  void PutTable(const TableId& id) {
    auto* lba1 = memory_.bytes().data() + kSectorBytes;
    std::memcpy(lba1, "EFI PART", 8);
    std::memcpy(lba1 + 56, id.data(), id.size());
  }
  void PutAnchor(uint64_t at) {
    const Status s = RunInline(store_->WriteAnchor(at));
    ASSERT_TRUE(s) << s.error().message;
  }
  void SetPhase(Phase phase) {
    ASSERT_TRUE(RunInline(store_->UpdateSuperblock(
        [phase](Superblock& block) { block.phase = phase; })));
  }
  Result<FoundMigration> Find() {
    return RunInline(FindMigration(device_, serial_));
  }
  void ExpectFound() {
    const auto found = Find();
    ASSERT_TRUE(found) << found.error().message;
    ASSERT_TRUE(found->superblock)
        << (found->doubt ? found->doubt->message : "nothing");
    EXPECT_EQ(found->superblock->sequence, store_->superblock().sequence);
    const auto opened = RunInline(
        MapStore::Open(device_, *found->superblock, MapFixture::Facts()));
    EXPECT_TRUE(opened) << opened.error().message;
  }
  // Nothing is found, and it is not said that there is nothing.
  void ExpectDoubt(ErrorCode code) {
    const std::vector<std::byte> before(memory_.bytes().begin(),
                                        memory_.bytes().end());
    const auto found = Find();
    if (found) {
      EXPECT_FALSE(found->superblock);
      ASSERT_TRUE(found->doubt);
      EXPECT_EQ(found->doubt->code, code) << found->doubt->message;
      EXPECT_FALSE(WithoutDoubt(*found));
    } else {
      EXPECT_EQ(found.error().code, code) << found.error().message;
    }
    EXPECT_TRUE(
        std::equal(before.begin(), before.end(), memory_.bytes().begin()))
        << "something was written";
  }
  void ExpectNothing(size_t warnings) {
    const auto found = Find();
    ASSERT_TRUE(found) << found.error().message;
    EXPECT_FALSE(found->superblock);
    EXPECT_FALSE(found->doubt) << found->doubt->message;
    EXPECT_EQ(found->warnings.size(), warnings);
  }
  void Damage(uint64_t at) { memory_.bytes()[at] ^= std::byte{1}; }

  MemoryDevice memory_;
  FaultyDevice device_;
  TableId target_{};
  TableId source_{};
  Sha256 serial_{};  // what the disk says of itself: nothing
  std::unique_ptr<MapStore> store_;
};

TEST_F(FindMigrationTest, AnchorLeadsToTheNewestSuperblock) {
  ExpectNothing(0);
  PutAnchor(a_);
  ExpectFound();
  PutTable(source_);
  ExpectFound();
}

TEST_F(FindMigrationTest, EverySuperblockCopyMayBeLost) {
  PutAnchor(a_);
  SetPhase(Phase::kStreaming);
  const auto pair = store_->superblock().superblock_chunks;
  for (const DiskChunk chunk : pair) {
    for (const uint64_t slot : {0, 1}) {
      SCOPED_TRACE(std::to_string(chunk.value) + "/" + std::to_string(slot));
      const uint64_t at = chunk.value * kChunk + slot * kSuperblockBytes;
      Damage(at + 100);
      ExpectFound();
      Damage(at + 100);
      device_.FailReadsOf(at, kSuperblockBytes);
      ExpectFound();
      device_.Mend();
    }
    // Both slots of it.
    device_.FailReadsOf(chunk.value * kChunk, kChunk);
    ExpectFound();
    device_.Mend();
  }
}

TEST_F(FindMigrationTest, AllSuperblockCopiesLostIsOneError) {
  PutAnchor(a_);
  SetPhase(Phase::kStreaming);
  for (const DiskChunk chunk : store_->superblock().superblock_chunks) {
    for (const uint64_t slot : {0, 1}) {
      Damage(chunk.value * kChunk + slot * kSuperblockBytes + 100);
    }
  }
  ExpectDoubt(ErrorCode::kCorrupt);
}

TEST_F(FindMigrationTest, LostCheckpointJournalOrManifestIsOneError) {
  PutAnchor(a_);
  const Superblock block = store_->superblock();
  const auto open = [&] {
    const uint64_t writes = device_.write_count();
    const auto opened =
        RunInline(MapStore::Open(device_, block, MapFixture::Facts()));
    EXPECT_EQ(device_.write_count(), writes);
    return opened ? std::optional<ErrorCode>() : opened.error().code;
  };
  EXPECT_FALSE(open());
  for (const DiskChunk chunk :
       {block.checkpoint_chunk, block.journal_chunk, block.manifest_chunk}) {
    SCOPED_TRACE(chunk.value);
    const uint64_t at = chunk.value * kChunk;
    device_.FailReadsOf(at, kSectorBytes);
    EXPECT_EQ(open(), ErrorCode::kIo);
    device_.Mend();
    Damage(at + 20);
    EXPECT_EQ(open(), ErrorCode::kCorrupt);
    Damage(at + 20);
    EXPECT_FALSE(open());
  }
}

TEST_F(FindMigrationTest, EachSectorOfTheAnchorMayBeLost) {
  for (const uint64_t place : {a_, kB}) {
    SCOPED_TRACE(place);
    store_ = MakeStore(0x42, {{12, 1}, {40, 100}, {150, 30}});
    PutAnchor(place);
    for (const uint64_t sector : {0, 2048}) {
      Damage(place + sector + 50);
      const auto found = Find();
      ASSERT_TRUE(found && found->superblock);
      Damage(place + sector + 50);
      device_.FailReadsOf(place + sector, kSectorBytes);
      const auto readable = Find();
      EXPECT_TRUE(readable && readable->superblock);
      device_.Mend();
    }
    ASSERT_TRUE(RunInline(store_->ClearAnchor()));
  }
}

TEST_F(FindMigrationTest, LostSectorOfTheAnchorIsThereAgainAfterOpening) {
  PutAnchor(a_);
  for (const uint64_t sector : {0, 2048}) {
    Damage(a_ + sector + 50);
    ExpectFound();  // and opens
    const uint64_t other = 2048 - sector;
    Damage(a_ + other + 50);
    const auto found = Find();
    ASSERT_TRUE(found && found->superblock) << sector;
    ExpectFound();
  }
}

TEST_F(FindMigrationTest, WholeAnchorLostIsADoubt) {
  PutAnchor(a_);
  Damage(a_ + 50);
  Damage(a_ + 2048 + 50);
  ExpectDoubt(ErrorCode::kCorrupt);
  Damage(a_ + 50);
  device_.FailReadsOf(a_, kSectorBytes);
  ExpectDoubt(ErrorCode::kCorrupt);
  device_.FailReadsOf(a_ + 2048, kSectorBytes);
  ExpectDoubt(ErrorCode::kCorrupt);
}

TEST_F(FindMigrationTest, UnreadablePlaceIsNoMatterIfTheOtherHasTheAnchor) {
  store_ = MakeStore(0x42, {{12, 1}, {40, 100}, {150, 30}});
  PutAnchor(kB);
  device_.FailReadsOf(a_, kAnchorBytes);
  ExpectFound();
}

TEST_F(FindMigrationTest, UnreadableDiskIsAnIoError) {
  device_.FailReadsOf(0, MapFixture::kDiskBytes);
  const auto found = Find();
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, ErrorCode::kIo);
}

TEST_F(FindMigrationTest, AnchorOfAnotherDiskIsIgnoredWithAWarning) {
  PutAnchor(a_);
  const Anchor own = *DecodeAnchor(memory_.bytes().subspan(a_, kAnchorBytes));
  const auto put = [&](const Anchor& anchor) {
    const auto sector = EncodeAnchor(anchor);
    for (const uint64_t at : {a_, a_ + 2048}) {
      std::memcpy(memory_.bytes().data() + at, sector.data(), sector.size());
    }
  };
  Anchor other = own;
  other.disk.size_bytes = own.disk.size_bytes + kSectorBytes;
  put(other);
  ExpectNothing(1);
  other.disk.size_bytes = own.disk.size_bytes - kSectorBytes;
  put(other);
  ExpectNothing(1);
  other = own;
  other.disk.serial_sha256.fill(std::byte{1});
  put(other);
  ExpectFound();  // the disk does not say what it is
  serial_.fill(std::byte{2});
  ExpectNothing(1);
  serial_.fill(std::byte{1});
  ExpectFound();
}

TEST_F(FindMigrationTest, AnchorOfANewerFormatIsUnsupported) {
  PutAnchor(a_);
  Anchor newer = *DecodeAnchor(memory_.bytes().subspan(a_, kAnchorBytes));
  newer.features.refuse = uint64_t{1} << 40;
  const auto sector = EncodeAnchor(newer);
  for (const uint64_t at : {a_, a_ + 2048}) {
    std::memcpy(memory_.bytes().data() + at, sector.data(), sector.size());
  }
  ExpectDoubt(ErrorCode::kUnsupported);
}

TEST_F(FindMigrationTest, ChangedTableOfALivingMigrationIsADoubt) {
  PutAnchor(a_);
  TableId changed;
  changed.fill(std::byte{99});
  PutTable(changed);
  for (const Phase phase :
       {Phase::kStubbed, Phase::kWritten, Phase::kArmed, Phase::kStreaming,
        Phase::kComplete, Phase::kCommitted, Phase::kSettled,
        Phase::kRollingBack}) {
    SCOPED_TRACE(PhaseName(phase));
    SetPhase(phase);
    ExpectDoubt(ErrorCode::kRefused);
  }
  PutTable(target_);
  ExpectFound();
}

TEST_F(FindMigrationTest, OverwrittenMigrationIsIgnoredWithAWarning) {
  PutAnchor(a_);
  TableId changed;
  changed.fill(std::byte{99});
  PutTable(changed);
  SetPhase(Phase::kParked);
  ExpectNothing(1);
  SetPhase(Phase::kArmed);
  for (const DiskChunk chunk : store_->superblock().superblock_chunks) {
    std::memset(memory_.bytes().data() + chunk.value * kChunk, 0x55, kChunk);
  }
  ExpectNothing(1);
}

TEST_F(FindMigrationTest, TableThatTheTargetChangesIsFollowed) {
  PutAnchor(a_);
  TableId changed;
  changed.fill(std::byte{99});
  ASSERT_TRUE(RunInline(store_->ChangeTargetTable(changed)));
  // The power goes before the table is on the disk, or after.
  ExpectFound();
  PutTable(changed);
  ExpectFound();
  EXPECT_EQ(store_->superblock().target_table_id, changed);
}

TEST_F(FindMigrationTest, TwoMigrationsStop) {
  PutAnchor(a_);
  const auto first = std::move(store_);
  store_ = MakeStore(0x43, {{12, 28}});
  PutAnchor(kB);
  const auto found = Find();
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, ErrorCode::kRefused);
}

TEST_F(FindMigrationTest, AnchorWhosePlacesAnotherMigrationUsesIsStale) {
  PutAnchor(a_);
  const std::vector<std::byte> old(
      memory_.bytes().begin() + static_cast<ptrdiff_t>(a_),
      memory_.bytes().begin() + static_cast<ptrdiff_t>(a_ + kAnchorBytes));
  store_ = MakeStore(0x43, {{12, 1}, {40, 100}, {150, 26}});
  PutAnchor(kB);
  std::copy(old.begin(), old.end(),
            memory_.bytes().begin() + static_cast<ptrdiff_t>(a_));
  const auto found = Find();
  ASSERT_TRUE(found) << found.error().message;
  ASSERT_TRUE(found->superblock);
  EXPECT_EQ(found->superblock->migration_id, store_->superblock().migration_id);
  EXPECT_EQ(found->warnings.size(), 1U);
}

// Another migration was begun in the places of one whose anchor is still there.
TEST_F(FindMigrationTest, AnchorDoesNotLeadToAnotherMigration) {
  PutAnchor(a_);
  const std::vector<std::byte> old(
      memory_.bytes().begin() + static_cast<ptrdiff_t>(a_),
      memory_.bytes().begin() + static_cast<ptrdiff_t>(a_ + kAnchorBytes));
  const SuperblockChunks places = store_->superblock().superblock_chunks;
  store_ = MakeStore(0x43, {{40, 100}, {150, 30}});
  ASSERT_EQ(store_->superblock().superblock_chunks, places);
  std::copy(old.begin(), old.end(),
            memory_.bytes().begin() + static_cast<ptrdiff_t>(a_));
  ExpectDoubt(ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace bootstream
