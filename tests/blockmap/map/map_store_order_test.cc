// What happens in which order: overlapping commits, single power cuts placed
// on purpose, failures.

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "blockmap/map/map_store.h"
#include "tests/support/crash_device.h"
#include "tests/support/map_fixture.h"

namespace bootstream {
namespace {

const ChunkState kZeroed = {Location::Zero(), 0, 0};

// A commit that has been started and its outcome.
struct Started {
  std::optional<Status> outcome;
};
std::shared_ptr<Started> Start(Task<Status> task) {
  auto started = std::make_shared<Started>();
  const auto run = [](Task<Status> work,
                      std::shared_ptr<Started> out) -> Task<void> {
    out->outcome = co_await work;
  };
  Spawn(run(std::move(task), started));
  return started;
}

bool IsZeroed(const MapStore& store, uint64_t chunk) {
  return store.map().Get(ImageChunk{chunk}).location.is_zero();
}

class MapStoreOrderTest : public testing::Test {
 protected:
  MapStoreOrderTest() : device_(MapFixture::kDiskBytes) {
    store_ = MapFixture::Create(device_);
  }
  // Commit until the next one has to begin a fresh journal.
  void FillJournal(MapStore& store) {
    const uint64_t blocks = MapFixture::kChunk / kBlockBytes - 1;
    for (uint64_t i = 1; i < blocks; ++i) {
      store.SetChunk(ImageChunk{60}, i % 2 == 0 ? ChunkState{} : kZeroed);
      ASSERT_TRUE(RunInline(store.Commit()));
    }
  }

  CrashDevice device_;
  std::unique_ptr<MapStore> store_;
};

TEST_F(MapStoreOrderTest, OverlappingCommitsShareTheNextOne) {
  device_.Hold();
  const uint64_t flushes = device_.flush_count();
  store_->SetChunk(ImageChunk{1}, kZeroed);
  const auto first = Start(store_->Commit());
  std::vector<std::shared_ptr<Started>> others;
  for (uint64_t i = 2; i < 12; ++i) {
    store_->SetChunk(ImageChunk{i}, kZeroed);
    others.push_back(Start(store_->Commit()));
  }
  while (!first->outcome) ASSERT_TRUE(device_.Step());
  for (const auto& other : others) EXPECT_FALSE(other->outcome);
  EXPECT_TRUE(store_->has_changes());
  while (device_.Step()) {
  }
  for (const auto& other : others) EXPECT_TRUE(other->outcome.value());
  EXPECT_EQ(device_.flush_count() - flushes, 4U);
}

TEST_F(MapStoreOrderTest, CommitTakesNoChangeThatCameAfterItsFlushBegan) {
  device_.Hold();
  store_->SetChunk(ImageChunk{1}, kZeroed);
  const auto commit = Start(store_->Commit());
  // Data that this speaks of is not covered by the flush under way.
  store_->SetChunk(ImageChunk{2}, kZeroed);
  while (device_.Step()) {
  }
  ASSERT_TRUE(commit->outcome.value());
  CrashDevice after(device_.image());
  const auto store = MapFixture::Open(after);
  ASSERT_TRUE(store);
  EXPECT_TRUE(IsZeroed(**store, 1));
  EXPECT_FALSE(IsZeroed(**store, 2));
}

TEST_F(MapStoreOrderTest, CommitsGoOnWhileACheckpointIsWritten) {
  device_.Hold();
  store_->SetChunk(ImageChunk{1}, kZeroed);
  const uint64_t epoch = store_->superblock().checkpoint_epoch;
  const auto checkpoint = Start(store_->Checkpoint());
  store_->SetChunk(ImageChunk{2}, kZeroed);
  const auto commit = Start(store_->Commit());
  while (!commit->outcome) ASSERT_TRUE(device_.Step());
  EXPECT_EQ(store_->superblock().checkpoint_epoch, epoch);
  EXPECT_FALSE(checkpoint->outcome);
  while (device_.Step()) {
  }
  EXPECT_TRUE(checkpoint->outcome.value());
  EXPECT_NE(store_->superblock().checkpoint_epoch, epoch);
  CrashDevice after(device_.image());
  const auto store = MapFixture::Open(after);
  ASSERT_TRUE(store);
  EXPECT_TRUE(IsZeroed(**store, 1) && IsZeroed(**store, 2));
}

TEST_F(MapStoreOrderTest, CheckpointUnderWayLeavesOthersTheirRoom) {
  const uint64_t room = store_->region().available_count(true);
  device_.Hold();
  const auto checkpoint = Start(store_->Checkpoint());
  do {
    EXPECT_GE(store_->region().available_count(true), room);
  } while (device_.Step());
  EXPECT_TRUE(checkpoint->outcome.value());
  EXPECT_EQ(store_->region().available_count(true), room);
}

TEST_F(MapStoreOrderTest, FailureEndsAllChanges) {
  for (const bool fail_write : {true, false}) {
    CrashDevice device(MapFixture::kDiskBytes);
    auto store = MapFixture::Create(device);
    store->SetChunk(ImageChunk{1}, kZeroed);
    if (fail_write) device.FailWritesTo(0, MapFixture::kDiskBytes);
    if (!fail_write) device.FailFlush(1);
    EXPECT_FALSE(RunInline(store->Commit()));
    const uint64_t writes = device.write_count();
    EXPECT_EQ(RunInline(store->Commit()).error().code, ErrorCode::kIo);
    EXPECT_FALSE(RunInline(store->Checkpoint()));
    EXPECT_FALSE(RunInline(store->UpdateSuperblock([](Superblock&) {})));
    EXPECT_FALSE(RunInline(store->WriteAnchor(150 * MapFixture::kChunk)));
    EXPECT_EQ(device.write_count(), writes);
  }
}

TEST_F(MapStoreOrderTest, FailureReachesEveryoneWhoWaits) {
  device_.Hold();
  std::vector<std::shared_ptr<Started>> all;
  for (uint64_t i = 0; i < 4; ++i) {
    store_->SetChunk(ImageChunk{i}, kZeroed);
    all.push_back(Start(store_->Commit()));
    all.push_back(Start(store_->Checkpoint()));
  }
  device_.FailWritesTo(0, MapFixture::kDiskBytes);
  while (device_.Step()) {
  }
  for (const auto& started : all) {
    ASSERT_TRUE(started->outcome);
    EXPECT_FALSE(*started->outcome);
  }
}

// A place that can neither be written nor read, where the next block would go.
TEST_F(MapStoreOrderTest, DeadSectorBehindTheJournalsEndIsGoneAround) {
  store_->SetChunk(ImageChunk{1}, kZeroed);
  ASSERT_TRUE(RunInline(store_->Commit()));
  const DiskChunk journal = store_->superblock().journal_chunk;
  const uint64_t dead = journal.value * MapFixture::kChunk + 2 * kBlockBytes;
  device_.FailWritesTo(dead, kSectorBytes);
  device_.FailReadsOf(dead, kSectorBytes);
  store_->SetChunk(ImageChunk{2}, kZeroed);
  ASSERT_TRUE(RunInline(store_->Commit()));
  EXPECT_NE(store_->superblock().journal_chunk, journal);
  const auto store = MapFixture::Open(device_);
  ASSERT_TRUE(store) << store.error().message;
  EXPECT_EQ(Describe((*store)->map()), Describe(store_->map()));
}

// What was committed must be there before the map goes elsewhere.
TEST_F(MapStoreOrderTest, JournalThatHasLostACommitIsNotWrittenElsewhere) {
  for (uint64_t i = 0; i < 3; ++i) {
    store_->SetChunk(ImageChunk{i}, kZeroed);
    ASSERT_TRUE(RunInline(store_->Commit()));
  }
  const DiskChunk journal = store_->superblock().journal_chunk;
  const uint64_t begin = journal.value * MapFixture::kChunk;
  const std::vector<std::byte> junk(kBlockBytes, std::byte{0x99});
  device_.image().Write(begin + 2 * kBlockBytes, junk);
  device_.FailWritesTo(begin, MapFixture::kChunk);
  store_->SetChunk(ImageChunk{4}, kZeroed);
  EXPECT_FALSE(RunInline(store_->Commit()));
  EXPECT_EQ(store_->superblock().journal_chunk, journal);
}

// The successor of a process that died in a commit repeats more than the
// journal has room for, and dies before anything is in the next journal.
TEST_F(MapStoreOrderTest, ChangesOutliveTwoDeathsAroundAFullJournal) {
  const UniqueFd memory(::memfd_create("kept", MFD_CLOEXEC));
  const auto open = [&] {
    auto kept = KeptChanges::Open(UniqueFd(::dup(memory.get())),
                                  store_->superblock().migration_id);
    EXPECT_TRUE(kept);
    return MapFixture::Open(device_, false, std::move(*kept));
  };
  const uint64_t blocks = MapFixture::kChunk / kBlockBytes - 1;
  for (uint64_t i = 2; i < blocks; ++i) {  // all but one, and the last
    store_->SetChunk(ImageChunk{60}, i % 2 == 0 ? kZeroed : ChunkState{});
    ASSERT_TRUE(RunInline(store_->Commit()));
  }
  auto first = open();
  ASSERT_TRUE(first) << first.error().message;
  const auto set = [&first](uint64_t count, const ChunkState& state) {
    for (uint64_t i = 0; i < count; ++i) {
      (*first)->SetChunk(ImageChunk{i}, state);
    }
  };
  set(MapFixture::kImageChunks, kZeroed);
  device_.Hold();
  const auto commit = Start((*first)->Commit());
  set(MapFixture::kImageChunks - 1, ChunkState{});
  device_.StopAtWrite(0);
  while (device_.Step()) {
  }
  ASSERT_FALSE(commit->outcome.value());
  first = Error{ErrorCode::kIo, ""};
  device_.GoOn();
  device_.Hold(false);
  // Behind the record that leads to a fresh journal.
  device_.StopAtFlush(2);
  ASSERT_FALSE(open());
  device_.GoOn();
  const auto last = open();
  ASSERT_TRUE(last) << last.error().message;
  EXPECT_EQ((*last)->map().chunk_count(), 1U);
  EXPECT_TRUE(IsZeroed(**last, MapFixture::kImageChunks - 1));
}

// The tail of a commit that was cut off must not come alive behind what is
// written over its beginning.
TEST_F(MapStoreOrderTest, TailOfALostCommitStaysLost) {
  for (uint64_t i = 0; i < 600; ++i) {  // five blocks
    store_->SetChunk(ImageChunk{i % 90}, i < 90 || i >= 500 ? kZeroed
                                         : i % 2 == 0       ? kZeroed
                                                            : ChunkState{});
  }
  const Superblock sb = store_->superblock();
  ASSERT_TRUE(RunInline(store_->Commit()));
  const uint64_t first_block =
      sb.journal_chunk.value * MapFixture::kChunk + kBlockBytes;
  const std::vector<std::byte> lost(kSectorBytes);

  CrashDevice torn(device_.image());
  torn.image().Write(first_block, lost);
  auto store = MapFixture::Open(torn);
  ASSERT_TRUE(store);
  EXPECT_EQ(Describe((*store)->map()), "");
  (*store)->SetChunk(ImageChunk{95}, kZeroed);
  ASSERT_TRUE(RunInline((*store)->Commit()));
  const std::string now = Describe((*store)->map());
  store = MapFixture::Open(torn);
  ASSERT_TRUE(store);
  EXPECT_EQ(Describe((*store)->map()), now);
}

// A commit that only the cache of the disk has when the process is killed
// counts for the next process, which then may reuse what it freed.
TEST_F(MapStoreOrderTest, OpenMakesDurableWhatItFinds) {
  const auto at =
      store_->Allocate({PlacementWish::For::kImageChunk, ImageChunk{50}});
  store_->SetChunk(ImageChunk{50}, {Location::At(*at), 1, 0});
  ASSERT_TRUE(RunInline(store_->Commit()));
  store_->SetChunk(ImageChunk{50}, ChunkState{});
  device_.FailFlush(1);  // the record is written, not flushed
  ASSERT_FALSE(RunInline(store_->Commit()));
  auto store = MapFixture::Open(device_);
  ASSERT_TRUE(store);
  ASSERT_EQ((*store)->region().OccupantOf(*at).use, ChunkUse::kFree);
  device_.CutPower();
  for (uint64_t fate = 0; fate < 8; ++fate) {
    std::mt19937_64 random(fate);
    CrashDevice after(device_.AfterPowerCut(random));
    const auto again = MapFixture::Open(after);
    ASSERT_TRUE(again);
    EXPECT_EQ((*again)->region().OccupantOf(*at).use, ChunkUse::kFree);
  }
}

// Two power cuts around the switch to a fresh journal: the second journal may
// get the epoch of one that was lost, and must not show that one's blocks.
TEST_F(MapStoreOrderTest, LostJournalStaysLost) {
  FillJournal(*store_);
  const DiskImage full = device_.image();
  for (uint64_t cut = 0; cut < 5; ++cut) {
    for (uint64_t fate = 0; fate < 600; ++fate) {
      SCOPED_TRACE(std::to_string(cut) + " " + std::to_string(fate));
      std::mt19937_64 random(fate);
      CrashDevice device(full);
      auto store = MapFixture::Open(device);
      ASSERT_TRUE(store);
      (*store)->SetChunk(ImageChunk{61}, kZeroed);
      device.CutPowerAtFlush(cut);
      (void)RunInline((*store)->Commit());
      device.CutPower();
      device.RestorePower(random);

      store = MapFixture::Open(device);
      ASSERT_TRUE(store);
      const std::string before = Describe((*store)->map());
      (*store)->SetChunk(ImageChunk{62}, kZeroed);
      const std::string attempted = Describe((*store)->map());
      device.CutPowerAtFlush(random() % 4);
      (void)RunInline((*store)->Commit());
      device.CutPower();
      device.RestorePower(random);

      store = MapFixture::Open(device);
      ASSERT_TRUE(store);
      const std::string found = Describe((*store)->map());
      EXPECT_TRUE(found == before || found == attempted) << found;
    }
  }
}

// However often the power goes while a checkpoint is written, there is room
// for the next one.
TEST_F(MapStoreOrderTest, InterruptedCheckpointIsFinishedByOpen) {
  for (uint64_t i = 0; i < MapFixture::kImageChunks - 2; ++i) {
    const auto at = store_->Allocate(
        {PlacementWish::For::kImageChunk, ImageChunk{i}}, true);
    if (!at) break;
    store_->SetChunk(ImageChunk{i}, {Location::At(*at), 1, 0});
  }
  ASSERT_TRUE(RunInline(store_->Commit()));
  std::mt19937_64 random(7);
  uint64_t free = 0;
  for (int round = 0; round < 60; ++round) {
    store_->AddPatch(ImageChunk{95}, {uint32_t(round), {std::byte{1}}});
    device_.CutPowerAtFlush(random() % 6);
    (void)RunInline(store_->Checkpoint());
    device_.CutPower();
    device_.RestorePower(random);
    store_.reset();
    auto store = MapFixture::Open(device_);
    ASSERT_TRUE(store) << store.error().message;
    store_ = std::move(*store);
    if (round == 0) free = store_->region().plain_free_count();
    EXPECT_EQ(store_->region().plain_free_count(), free);
    store_->SetChunk(ImageChunk{94}, round % 2 == 0 ? kZeroed : ChunkState{});
    ASSERT_TRUE(RunInline(store_->Commit()));
  }
  ASSERT_TRUE(RunInline(store_->Checkpoint()));
}

constexpr uint64_t kAnchorOffset = 152 * MapFixture::kChunk;
// More than the move of a superblock has.
constexpr uint64_t kMoveFlushes = 10;

Result<Anchor> AnchorOn(BlockDevice& device) {
  return RunInline(ReadAnchor(device, kAnchorOffset));
}

// A map whose superblocks move, and are looked for over the anchor alone, as
// the driver does.
class MapStoreMoveTest : public MapStoreOrderTest {
 protected:
  void SetUp() override {
    store_->SetChunk(ImageChunk{1}, kZeroed);
    ASSERT_TRUE(RunInline(store_->WriteAnchor(kAnchorOffset)));
    map_ = Describe(store_->map());
  }
  static Result<std::unique_ptr<MapStore>> OpenByAnchor(
      BlockDevice& device, bool read_only = false) {
    const auto anchor = AnchorOn(device);
    if (!anchor) return anchor.error();
    const auto sb = RunInline(MapStore::ReadSuperblock(
        device, MapFixture::kChunk, anchor->superblock_chunks));
    if (!sb) return sb.error();
    return RunInline(
        MapStore::Open(device, *sb, MapFixture::Facts(), read_only));
  }
  void ExpectFound(BlockDevice& device) {
    const auto store = OpenByAnchor(device, /*read_only=*/true);
    ASSERT_TRUE(store) << store.error().message;
    EXPECT_EQ(Describe((*store)->map()), map_);
  }
  // Move the superblock `which` of the two; the power goes at flush `cut`.
  void MoveCutShort(CrashDevice& device, int which, uint64_t cut,
                    std::mt19937_64& random) {
    auto store = OpenByAnchor(device);
    ASSERT_TRUE(store) << store.error().message;
    device.CutPowerAtFlush(cut);
    (void)RunInline((*store)->MoveMetadata(
        (*store)->superblock().superblock_chunks[which]));
    device.CutPower();
    device.RestorePower(random);
    ExpectFound(device);
  }

  std::string map_;
};

TEST_F(MapStoreMoveTest, AnchorLeadsOnWhenBothMovesAreCutShort) {
  for (uint64_t first = 0; first < kMoveFlushes; ++first) {
    for (uint64_t second = 0; second < kMoveFlushes; ++second) {
      SCOPED_TRACE(std::to_string(first) + " " + std::to_string(second));
      std::mt19937_64 random(first * kMoveFlushes + second);
      CrashDevice device(device_.image());
      ASSERT_NO_FATAL_FAILURE(MoveCutShort(device, 0, first, random));
      ASSERT_NO_FATAL_FAILURE(MoveCutShort(device, 1, second, random));
    }
  }
}

TEST_F(MapStoreMoveTest, OneOfTheAnchorsPlacesIsEnoughWhereverAMoveIsCut) {
  for (uint64_t cut = 0; cut < kMoveFlushes; ++cut) {
    std::mt19937_64 random(cut);
    CrashDevice device(device_.image());
    ASSERT_NO_FATAL_FAILURE(MoveCutShort(device, 0, cut, random));
    const auto anchor = AnchorOn(device);
    ASSERT_TRUE(anchor);
    for (const DiskChunk lost : anchor->superblock_chunks) {
      SCOPED_TRACE(std::to_string(cut) + " " + std::to_string(lost.value));
      CrashDevice after(device.image());
      after.FailReadsOf(lost.value * MapFixture::kChunk, kSuperblockSlotsBytes);
      ASSERT_NO_FATAL_FAILURE(ExpectFound(after));
    }
  }
}

}  // namespace
}  // namespace bootstream
