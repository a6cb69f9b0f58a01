#include <nlohmann/json.hpp>

#include "bootagent/locate.h"
#include "tests/bootagent/migration_fixture.h"

// Stops between every two durable actions, then goes on or back.

namespace bootstream {
namespace {

// In the order in which a migration comes by.
const std::vector<std::string> kBeforeStub{"staged-written",
                                           "staged-recorded",
                                           "staged-written:4",
                                           "staged-recorded:4",
                                           "staged",
                                           "relocate-copied",
                                           "relocate-recorded",
                                           "relocate-copied:3",
                                           "relocate-recorded:3",
                                           "relocated"};
const std::vector<std::string> kFromStub{
    "source-stub",     "source-invalid", "source-invalid:2", "stubbed",
    "anchor",          "home-copied",    "home-recorded",    "home-copied:3",
    "home-recorded:3", "tables-around",  "written",          "table",
    "table:2",         "table:3",        "table:4",          "table:5",
    "tables-recorded", "armed"};
const std::vector<std::string> kRollback{"rolling-back",
                                         "exchange-target-copied",
                                         "exchange-target-recorded",
                                         "target-stub",
                                         "target-invalid",
                                         "exchange-target-copied:3",
                                         "exchange-target-recorded:3",
                                         "exchange-source-copied",
                                         "exchange-source-recorded",
                                         "exchange-source-copied:3",
                                         "exchange-source-recorded:3",
                                         "anchor-cleared",
                                         "anchor-chunk-copied",
                                         "anchor-chunk-recorded",
                                         "around-tables-copied",
                                         "around-tables-recorded",
                                         "parked",
                                         "source-table",
                                         "source-table:2",
                                         "source-table:3",
                                         "relocations-forgotten"};

std::vector<std::string> All() {
  std::vector<std::string> all = kBeforeStub;
  all.insert(all.end(), kFromStub.begin(), kFromStub.end());
  return all;
}

void ExpectStopped(const Status& status, const std::string& stop) {
  ASSERT_FALSE(status.has_value()) << "never came by " << stop;
  ASSERT_EQ(status.error().code, ErrorCode::kUnavailable)
      << stop << ": " << status.error().message;
}

void ExpectOk(const Status& status, const std::string& what) {
  ASSERT_TRUE(status.has_value()) << what << ": " << status.error().message;
}

TEST_F(MigrationTest, RunsThroughAndBack) {
  ExpectStopped(RunMigrate(disk_, "released"), "released");
  const std::string released = Copy(disk_, "released");
  ExpectOk(RunMigrate(disk_), "migrate");
  ExpectArmed(disk_);
  ExpectOk(RunMigrate(disk_), "an armed disk is left alone");
  ExpectArmed(disk_);
  ExpectOk(RunRollback(disk_), "rollback");
  EXPECT_EQ(PhaseOf(disk_), "parked");
  ExpectSource(disk_, released);
  ExpectFilesIntact(disk_);
  ExpectOk(RunRollback(disk_), "rolling back twice");
  ExpectSource(disk_, released);
  EXPECT_EQ(RunMigrate(disk_).error().code, ErrorCode::kRefused);
}

TEST_F(MigrationTest, StoppedAnywhereItGoesOn) {
  for (const char* stop :
       {"region-allocated", "map-created", "region-tagged"}) {
    const std::string disk = Copy(disk_, "work");
    ExpectStopped(RunMigrate(disk, stop), stop);
    ExpectFilesIntact(disk);
    ExpectOk(RunMigrate(disk), stop);
    ExpectArmed(disk);
  }
  ExpectStopped(RunMigrate(disk_, "released"), "released");
  const std::string id = MigrationIdOf(disk_);
  for (const std::string& stop : All()) {
    SCOPED_TRACE(stop);
    const std::string disk = Copy(disk_, "work");
    ASSERT_NO_FATAL_FAILURE(ExpectStopped(RunMigrate(disk, stop), stop));
    ASSERT_NO_FATAL_FAILURE(ExpectOk(RunMigrate(disk), stop));
    EXPECT_EQ(MigrationIdOf(disk), id) << "it began anew";
    ASSERT_NO_FATAL_FAILURE(ExpectArmed(disk));
  }
}

TEST_F(MigrationTest, StoppedAnywhereItGoesBack) {
  ExpectStopped(RunMigrate(disk_, "released"), "released");
  for (const std::string& stop : All()) {
    SCOPED_TRACE(stop);
    const std::string disk = Copy(disk_, "work");
    ASSERT_NO_FATAL_FAILURE(ExpectStopped(RunMigrate(disk, stop), stop));
    ASSERT_NO_FATAL_FAILURE(ExpectOk(RunRollback(disk), stop));
    EXPECT_EQ(PhaseOf(disk), "parked");
    ASSERT_NO_FATAL_FAILURE(ExpectSource(disk, disk_));
  }
}

TEST_F(MigrationTest, RollbackStoppedAnywhereGoesOn) {
  ExpectStopped(RunMigrate(disk_, "released"), "released");
  const std::string armed = Copy(disk_, "armed");
  ExpectOk(RunMigrate(armed), "migrate");
  for (const std::string& stop : kRollback) {
    SCOPED_TRACE(stop);
    const std::string disk = Copy(armed, "work");
    ASSERT_NO_FATAL_FAILURE(ExpectStopped(RunRollback(disk, stop), stop));
    if (PhaseOf(disk) == "rolling-back") {
      EXPECT_EQ(RunMigrate(disk).error().code, ErrorCode::kRefused);
    }
    ASSERT_NO_FATAL_FAILURE(ExpectOk(RunRollback(disk), stop));
    EXPECT_EQ(PhaseOf(disk), "parked");
    ASSERT_NO_FATAL_FAILURE(ExpectSource(disk, disk_));
  }
}

TEST_F(MigrationTest, SourceThatRanInBetweenIsNotOverwritten) {
  const std::string files = Path("files");
  Run("cp files files.before");
  ExpectStopped(RunMigrate(disk_, "released"), "released");
  const std::string id = MigrationIdOf(disk_);
  std::vector<std::string> stops = kBeforeStub;
  stops.insert(stops.begin(), "released");
  stops.push_back("source-stub");
  stops.push_back("source-invalid");
  for (const std::string& stop : stops) {
    SCOPED_TRACE(stop);
    Run("cp files.before files");
    const std::string disk = Copy(disk_, "work");
    if (stop != "released") {
      ASSERT_NO_FATAL_FAILURE(ExpectStopped(RunMigrate(disk, stop), stop));
    }
    ASSERT_NO_FATAL_FAILURE(ChangeSource(disk, "changed"));
    ASSERT_NO_FATAL_FAILURE(ExpectOk(RunMigrate(disk), stop));
    EXPECT_NE(MigrationIdOf(disk), id) << "it trusted a changed source";
    ASSERT_NO_FATAL_FAILURE(ExpectArmed(disk));
    ASSERT_NO_FATAL_FAILURE(ExpectOk(RunRollback(disk), stop));
    ASSERT_NO_FATAL_FAILURE(ExpectFilesIntact(disk));
  }
}

TEST_F(MigrationTest, TornOlderSuperblockIsNoHindrance) {
  ExpectStopped(RunMigrate(disk_, "staged"), "staged");
  auto device = PosixBlockDevice::Open(disk_, OpenMode::kReadOnly);
  ASSERT_TRUE(device.has_value());
  StopPoints stops;
  Progress progress(stderr, Progress::Style::kSilent);
  const Job job{disk_, *device, {}, stops, progress, 32};
  const auto located = RunInline(Locate(job));
  ASSERT_TRUE(located.has_value() && located->superblock.has_value());
  const Superblock& superblock = *located->superblock;
  const uint64_t older = (superblock.sequence + 1) % kSuperblockSlots;
  for (const DiskChunk chunk : superblock.superblock_chunks) {
    Flip(disk_, chunk.value * kChunk + older * kSuperblockBytes + 300);
  }
  const std::string id = MigrationIdOf(disk_);
  ExpectOk(RunMigrate(disk_), "with torn slots");
  EXPECT_EQ(MigrationIdOf(disk_), id) << "it began anew";
}

// Rolled back before the stub, cut short when the copies are forgotten: nothing
// may go on from a map that says `relocated` and has no copies.
TEST_F(MigrationTest, MigrationNeverGoesOnWithoutItsCopies) {
  ExpectStopped(RunMigrate(disk_, "relocated"), "relocated");
  const std::string relocated = Copy(disk_, "before");
  for (const char* stop : {"relocations-forgotten", "parked"}) {
    SCOPED_TRACE(stop);
    const std::string disk = Copy(relocated, "work");
    ExpectStopped(RunRollback(disk, stop), stop);
    EXPECT_EQ(RunMigrate(disk).error().code, ErrorCode::kRefused);
    ExpectSource(disk, relocated);
    ExpectOk(RunRollback(disk), stop);
    ExpectSource(disk, relocated);
    ExpectFilesIntact(disk);
  }
}

// The target has never run, but its boot loader has written: that is kept.
TEST_F(MigrationTest, WhatABootLoaderWroteIsNotGivenUp) {
  ExpectOk(RunMigrate(disk_), "migrate");
  Flip(disk_, 1 * kMiB + uint64_t{512} * 40);
  ExpectOk(RunRollback(disk_), "rollback");
  const auto status = nlohmann::json::parse(StatusOf(disk_));
  EXPECT_EQ(status["chunks"]["dirty_blocks"], kChunk / kBlockBytes);
}

TEST_F(MigrationTest, DeadNetworkCostsNothing) {
  ExpectStopped(RunMigrate(disk_, "released"), "released");
  const std::string released = Copy(disk_, "released");
  access_->source().FailNext({ErrorCode::kUnavailable, "no server"}, true);
  const auto status = RunMigrate(disk_);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, ErrorCode::kUnavailable);
  ExpectSource(disk_, released);
  access_->source().StopFailing();
  ExpectOk(RunMigrate(disk_), "with the server back");
  ExpectArmed(disk_);
}

// Let clean chunks of the image take every place that is left.
void FillRegion(const std::string& disk) {
  auto device = PosixBlockDevice::Open(disk, OpenMode::kReadWrite);
  ASSERT_TRUE(device.has_value());
  StopPoints stops;
  Progress progress(stderr, Progress::Style::kSilent);
  const Job job{disk, *device, {}, stops, progress, 32};
  const auto located = RunInline(Locate(job));
  ASSERT_TRUE(located.has_value() && located->superblock.has_value());
  auto migration = RunInline(OpenMigration(job, *located->superblock, false));
  ASSERT_TRUE(migration.has_value()) << migration.error().message;
  MapStore& store = *migration->store;
  const Grid image = migration->manifest->grid();
  uint64_t filled = 0;
  for (uint64_t c = 0; c < image.chunk_count(); ++c) {
    if (store.map().Get({c}).location.on_disk()) continue;
    const auto place =
        store.Allocate({PlacementWish::For::kImageChunk, {c}}, true);
    if (!place) break;
    store.SetChunk({c}, {Location::At(*place), image.full_mask(c), 0});
    ++filled;
  }
  ASSERT_TRUE(RunInline(store.Commit()).has_value());
  ASSERT_GT(filled, 20u);
  ASSERT_EQ(store.region().available_count(true), 0u);
}

TEST_F(MigrationTest, FullRegionIsNoHindranceOnTheWayBack) {
  plan_options_.headroom_bytes = 79 * kMiB;
  EXPECT_EQ(RunMigrate(disk_).error().code, ErrorCode::kRefused);
  plan_options_.when_full = WhenFull::kBlock;
  ExpectStopped(RunMigrate(disk_, "released"), "released");
  const std::string released = Copy(disk_, "released");
  ExpectOk(RunMigrate(disk_), "migrate");
  ExpectArmed(disk_);
  ASSERT_NO_FATAL_FAILURE(FillRegion(disk_));
  ExpectOk(RunRollback(disk_), "rollback");
  ExpectSource(disk_, released);
}

TEST_F(MigrationTest, StagedBootSetNeedsNoNetworkAnyMore) {
  ExpectStopped(RunMigrate(disk_, "staged"), "staged");
  access_->source().FailNext({ErrorCode::kUnavailable, "no server"}, true);
  ExpectOk(RunMigrate(disk_), "without a server");
  ExpectArmed(disk_);
}

}  // namespace
}  // namespace bootstream
