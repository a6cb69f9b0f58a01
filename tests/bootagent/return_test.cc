#include "bootagent/return.h"

#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>

#include "blockmap/disk/loop_mount.h"
#include "bootagent/stage.h"
#include "tests/bootagent/migration_fixture.h"
#include "tests/support/crash_device.h"
#include "tests/support/fake_image.h"
#include "tests/support/target_session.h"

// The target works, is rolled back, and comes back: stopped between every two
// durable actions, with the source running in between, without a server,
// without room.  A plain copy in memory says what the target must read.

namespace bootstream {
namespace {

const std::vector<std::string> kBeforeStub{
    "released",          "relocations-dropped",
    "room-made",         "staged",
    "relocate-copied",   "relocate-recorded",
    "relocate-copied:3", "relocate-recorded:3",
    "relocated",         "source-stub",
    "source-invalid"};
const std::vector<std::string> kFromStub{
    "source-invalid:2", "stubbed",        "anchor",          "home-copied",
    "home-recorded",    "home-copied:3",  "home-recorded:3", "tables-around",
    "written",          "table",          "table:2",         "table:4",
    "table:5",          "tables-recorded"};

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

void ExpectRefused(const Status& status, const std::string& words) {
  ASSERT_FALSE(status.has_value()) << "not refused; expected: " << words;
  EXPECT_NE(status.error().message.find(words), std::string::npos)
      << status.error().message;
}

class ReturnTest : public MigrationTest {
 protected:
  static constexpr ByteExtent kTargetEsp{1 * kMiB, 4 * kMiB};
  static constexpr ByteExtent kTargetBoot{5 * kMiB, 10 * kMiB};
  static constexpr ByteExtent kTargetRoot{15 * kMiB, 24 * kMiB};

  void SetUp() override {
    MigrationTest::SetUp();
    if (IsSkipped()) return;
    const auto image = access_->source().image();
    expected_.assign(image.begin(), image.end());
  }

  // --- The target, and the copy that says what it must read ---

  struct Boot {
    Boot(const std::string& disk, FakeChunkSource& source)
        : device(*PosixBlockDevice::Open(disk, OpenMode::kReadWrite)),
          session(device, disk, source) {}
    PosixBlockDevice device;
    TargetSession session;
  };

  void Write(Boot& boot, uint64_t offset, uint64_t size) {
    const auto data = RandomBytes(size, ++seed_);
    boot.session.Write(offset, data);
    std::memcpy(expected_.data() + offset, data.data(), size);
  }
  void Discard(Boot& boot, uint64_t offset, uint64_t size) {
    boot.session.Discard(offset, size);
    std::memset(expected_.data() + offset, 0, size);
  }
  // Firmware or boot loader, before the driver runs: on the raw disk.
  void WriteRaw(const std::string& disk, uint64_t offset, uint64_t size) {
    const auto data = RandomBytes(size, ++seed_);
    std::fstream file(disk, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(offset));
    file.write(reinterpret_cast<const char*>(data.data()),
               static_cast<std::streamsize>(size));
    ASSERT_TRUE(file.good());
    std::memcpy(expected_.data() + offset, data.data(), size);
  }

  // A day's work: every kind of place and of write.
  void Work(const std::string& disk) {
    // A used cluster of the ESP, a sector behind the GPT's entries.
    WriteRaw(disk, kTargetEsp.offset + uint64_t{512} * 40, 1024);
    WriteRaw(disk, uint64_t{512} * 50, 512);
    Boot boot(disk, access_->source());
    Write(boot, kTargetBoot.end() - 3 * kChunk - 8192, 16384);  // a new kernel
    Write(boot, kTargetEsp.end() - kChunk + 512, 512);          // a patch
    Write(boot, kTargetRoot.offset + 1024, 1024);  // the superblock
    for (uint64_t at = 3 * kMiB; at < 20 * kMiB; at += 3 * kMiB + 69632) {
      Write(boot, kTargetRoot.offset + at, 40960);
      Write(boot, kTargetRoot.offset + at + kChunk + 1536, 512);  // a patch
    }
    Discard(boot, kTargetRoot.offset + 4 * kMiB, 3 * kChunk);
    (void)boot.session.Read(kTargetRoot.offset + 8 * kMiB, 5 * kMiB);
    boot.session.Shutdown();
  }

  void ExpectTarget(const std::string& disk,
                    const std::string& phase = "armed") {
    EXPECT_EQ(PhaseOf(disk), phase);
    // What the boot loader reads is on the raw disk.
    const auto raw = Load(disk);
    for (const ImageChunk chunk : BootChunks(access_->manifest())) {
      const uint64_t at = chunk.value * kChunk;
      ASSERT_EQ(std::memcmp(raw.data() + at, expected_.data() + at, kChunk), 0)
          << "boot chunk " << chunk.value << " is not at home";
    }
    const uint64_t kernel = kTargetBoot.end() - 3 * kChunk - 8192;
    ASSERT_EQ(
        std::memcmp(raw.data() + kernel, expected_.data() + kernel, 16384), 0)
        << "what was written to /boot is not at home";
    Boot boot(disk, access_->source());
    for (uint64_t at = 0; at < expected_.size(); at += kMiB) {
      const auto now = boot.session.Read(at, kMiB);
      ASSERT_EQ(std::memcmp(now.data(), expected_.data() + at, kMiB), 0)
          << "the target's data differs in MiB " << at / kMiB;
    }
  }

  // Migrated, worked with, rolled back.
  void Park(const std::string& disk) {
    ASSERT_NO_FATAL_FAILURE(ExpectOk(RunMigrate(disk), "migrate"));
    ASSERT_NO_FATAL_FAILURE(Work(disk));
    ASSERT_NO_FATAL_FAILURE(ExpectOk(RunRollback(disk), "rollback"));
    ASSERT_EQ(PhaseOf(disk), "parked");
  }

  std::vector<std::byte> expected_;
  uint64_t seed_ = 100;
};

TEST_F(ReturnTest, BringsBackWhatTheTargetWrote) {
  ASSERT_NO_FATAL_FAILURE(Park(disk_));
  ASSERT_NO_FATAL_FAILURE(ChangeSource(disk_, "changed while parked"));
  const std::string before = Copy(disk_, "before");
  ASSERT_NO_FATAL_FAILURE(ExpectOk(RunReturn(disk_), "return"));
  ASSERT_NO_FATAL_FAILURE(ExpectTarget(disk_));
  ASSERT_NO_FATAL_FAILURE(ExpectOk(RunRollback(disk_), "rollback again"));
  ASSERT_NO_FATAL_FAILURE(ExpectSource(disk_, before));
  ASSERT_NO_FATAL_FAILURE(ExpectFilesIntact(disk_));
  ASSERT_NO_FATAL_FAILURE(ExpectOk(RunReturn(disk_), "return again"));
  ASSERT_NO_FATAL_FAILURE(Work(disk_));
  ASSERT_NO_FATAL_FAILURE(ExpectOk(RunRollback(disk_), "a third time"));
  ASSERT_NO_FATAL_FAILURE(ExpectSource(disk_, before));
  ASSERT_NO_FATAL_FAILURE(ExpectOk(RunReturn(disk_), "return"));
  ASSERT_NO_FATAL_FAILURE(ExpectTarget(disk_));
}

TEST_F(ReturnTest, StoppedAnywhereItGoesOn) {
  ASSERT_NO_FATAL_FAILURE(Park(disk_));
  bool by_migrate = false;
  for (const std::string& stop : All()) {
    SCOPED_TRACE(stop);
    const std::string disk = Copy(disk_, "work");
    ASSERT_NO_FATAL_FAILURE(ExpectStopped(RunReturn(disk, stop), stop));
    by_migrate = !by_migrate;
    ASSERT_NO_FATAL_FAILURE(
        ExpectOk(by_migrate ? RunMigrate(disk) : RunReturn(disk), stop));
    ASSERT_NO_FATAL_FAILURE(ExpectTarget(disk));
  }
}

TEST_F(ReturnTest, StoppedAnywhereItGoesBackAndReturns) {
  ASSERT_NO_FATAL_FAILURE(Park(disk_));
  // Before anything is relocated there is nothing to go back from.
  std::vector<std::string> stops{"released", "relocate-recorded:3", "relocated",
                                 "source-stub", "source-invalid"};
  stops.insert(stops.end(), kFromStub.begin(), kFromStub.end());
  for (const std::string& stop : stops) {
    SCOPED_TRACE(stop);
    const std::string disk = Copy(disk_, "work");
    ASSERT_NO_FATAL_FAILURE(ExpectStopped(RunReturn(disk, stop), stop));
    ASSERT_NO_FATAL_FAILURE(ExpectOk(RunRollback(disk), stop));
    EXPECT_EQ(PhaseOf(disk), "parked");
    ASSERT_NO_FATAL_FAILURE(ExpectSource(disk, disk_));
    ASSERT_NO_FATAL_FAILURE(ExpectOk(RunReturn(disk), stop));
    ASSERT_NO_FATAL_FAILURE(ExpectTarget(disk));
  }
}

TEST_F(ReturnTest, SourceThatRunsInBetweenCostsTheTargetNothing) {
  ASSERT_NO_FATAL_FAILURE(Park(disk_));
  Run("cp files files.before");
  bool by_migrate = false;
  for (const std::string& stop : kBeforeStub) {
    SCOPED_TRACE(stop);
    Run("cp files.before files");
    const std::string disk = Copy(disk_, "work");
    ASSERT_NO_FATAL_FAILURE(ExpectStopped(RunReturn(disk, stop), stop));
    ASSERT_NO_FATAL_FAILURE(ChangeSource(disk, "changed"));
    by_migrate = !by_migrate;
    ASSERT_NO_FATAL_FAILURE(
        ExpectOk(by_migrate ? RunMigrate(disk) : RunReturn(disk), stop));
    ASSERT_NO_FATAL_FAILURE(ExpectTarget(disk));
    ASSERT_NO_FATAL_FAILURE(ExpectOk(RunRollback(disk), stop));
    ASSERT_NO_FATAL_FAILURE(ExpectFilesIntact(disk));
  }
}

// The power goes at flushes of a return, all over it; what was not flushed is
// kept, dropped or torn.
TEST_F(ReturnTest, GoesOnFromPowerCuts) {
  constexpr uint64_t kCuts = 24;
  ASSERT_NO_FATAL_FAILURE(Park(disk_));
  const auto loaded = Load(disk_);
  std::vector<std::byte> bytes(loaded.size());
  std::memcpy(bytes.data(), loaded.data(), loaded.size());
  const DiskImage parked(std::move(bytes));
  CrashDevice whole(parked);
  ASSERT_NO_FATAL_FAILURE(ExpectOk(ReturnOn(whole, disk_), "uncut"));
  const uint64_t flushes = whole.flush_count();
  ASSERT_GT(flushes, kCuts);
  for (uint64_t i = 0; i < kCuts; ++i) {
    const uint64_t cut = i * flushes / kCuts;
    SCOPED_TRACE("power cut at flush " + std::to_string(cut));
    CrashDevice device(parked);
    device.CutPowerAtFlush(cut);
    ASSERT_FALSE(ReturnOn(device, disk_).has_value());
    std::mt19937_64 random(cut);
    CrashDevice on(device.AfterPowerCut(random));
    ASSERT_NO_FATAL_FAILURE(ExpectOk(ReturnOn(on, disk_), "going on"));
    TargetSession target(on, disk_, access_->source());
    for (uint64_t at = 0; at < expected_.size(); at += kMiB) {
      const auto now = target.Read(at, kMiB);
      ASSERT_EQ(std::memcmp(now.data(), expected_.data() + at, kMiB), 0)
          << "the target's data differs in MiB " << at / kMiB;
    }
  }
}

TEST_F(ReturnTest, NeedsNoServerForWhatIsThere) {
  ASSERT_NO_FATAL_FAILURE(Park(disk_));
  access_->source().FailNext({ErrorCode::kUnavailable, "no server"}, true);
  ASSERT_NO_FATAL_FAILURE(ExpectOk(RunReturn(disk_), "without a server"));
  EXPECT_EQ(PhaseOf(disk_), "armed");
  access_->source().StopFailing();
  ASSERT_NO_FATAL_FAILURE(ExpectTarget(disk_));
}

TEST_F(ReturnTest, CompleteTargetIsCompleteAgain) {
  ASSERT_NO_FATAL_FAILURE(ExpectOk(RunMigrate(disk_), "migrate"));
  ASSERT_NO_FATAL_FAILURE(Work(disk_));
  {
    Boot boot(disk_, access_->source());
    (void)boot.session.Read(0, kImageBytes);
    boot.session.Shutdown();
  }
  ASSERT_NO_FATAL_FAILURE(ExpectOk(RunRollback(disk_), "rollback"));
  access_->source().FailNext({ErrorCode::kUnavailable, "no server"}, true);
  ASSERT_NO_FATAL_FAILURE(ExpectOk(RunReturn(disk_), "without a server"));
  ASSERT_NO_FATAL_FAILURE(ExpectTarget(disk_, "complete"));
}

// The region of a plan without a guarantee, written to until it is full.
class FullRegionTest : public ReturnTest {
 protected:
  void SetUp() override {
    ReturnTest::SetUp();
    if (IsSkipped()) return;
    plan_options_.headroom_bytes = 79 * kMiB;
    plan_options_.when_full = WhenFull::kBlock;
    ExpectStopped(RunMigrate(disk_, "released"), "released");
    released_ = Copy(disk_, "released");
    ExpectOk(RunMigrate(disk_), "migrate");
    ASSERT_NO_FATAL_FAILURE(Work(disk_));
    Fill(disk_);
  }

  void Fill(const std::string& disk) {
    Boot boot(disk, access_->source());
    uint64_t written = 0;
    for (uint64_t at = kTargetRoot.offset; at < kImageBytes; at += kChunk) {
      const auto data = RandomBytes(kChunk, ++seed_);
      const auto status = boot.session.TryWrite(at, data);
      if (!status) {
        ASSERT_EQ(status.error().code, ErrorCode::kNoSpace)
            << status.error().message;
        continue;
      }
      ++written;
      std::memcpy(expected_.data() + at, data.data(), kChunk);
    }
    boot.session.Shutdown();
    ASSERT_GT(written, 100u);
    ASSERT_LT(written, (kImageBytes - kTargetRoot.offset) / kChunk)
        << "the region was never full";
  }

  std::string released_;
};

TEST_F(FullRegionTest, GoesBackAndReturns) {
  ExpectOk(RunRollback(disk_), "rollback");
  ASSERT_NO_FATAL_FAILURE(ExpectSource(disk_, released_));
  ASSERT_NO_FATAL_FAILURE(ChangeSource(disk_, "changed while parked"));
  const std::string before = Copy(disk_, "before");
  ExpectOk(RunReturn(disk_), "return");
  ASSERT_NO_FATAL_FAILURE(ExpectTarget(disk_, "complete"));
  ExpectOk(RunRollback(disk_), "rollback again");
  ASSERT_NO_FATAL_FAILURE(ExpectSource(disk_, before));
  ExpectOk(RunReturn(disk_), "return again");
  ASSERT_NO_FATAL_FAILURE(ExpectTarget(disk_, "complete"));
}

TEST_F(FullRegionTest, StoppedOnTheWayBackItGoesOn) {
  for (const char* stop :
       {"rolling-back", "exchange-target-recorded", "target-stub",
        "exchange-target-copied:4", "exchange-target-recorded:4",
        "exchange-source-copied:2", "exchange-source-recorded:2",
        "anchor-cleared", "around-tables-recorded", "parked"}) {
    SCOPED_TRACE(stop);
    const std::string disk = Copy(disk_, "work");
    ASSERT_NO_FATAL_FAILURE(ExpectStopped(RunRollback(disk, stop), stop));
    ASSERT_NO_FATAL_FAILURE(ExpectOk(RunRollback(disk), stop));
    ASSERT_NO_FATAL_FAILURE(ExpectSource(disk, released_));
    ASSERT_NO_FATAL_FAILURE(ExpectOk(RunReturn(disk), stop));
    ASSERT_NO_FATAL_FAILURE(ExpectTarget(disk, "complete"));
  }
}

TEST_F(FullRegionTest, StoppedWhilePlacesAreExchangedItGoesOnOrBack) {
  ExpectOk(RunRollback(disk_), "rollback");
  for (const char* stop : {"relocated", "stubbed", "exchange-away-copied",
                           "exchange-away-recorded", "exchange-home-copied",
                           "exchange-home-recorded", "exchange-away-recorded:3",
                           "exchange-home-copied:3", "written"}) {
    SCOPED_TRACE(stop);
    const std::string disk = Copy(disk_, "work");
    ASSERT_NO_FATAL_FAILURE(ExpectStopped(RunReturn(disk, stop), stop));
    const std::string back = Copy(disk, "back");
    ASSERT_NO_FATAL_FAILURE(ExpectOk(RunReturn(disk), stop));
    ASSERT_NO_FATAL_FAILURE(ExpectTarget(disk, "complete"));
    ASSERT_NO_FATAL_FAILURE(ExpectOk(RunRollback(back), stop));
    ASSERT_NO_FATAL_FAILURE(ExpectSource(back, released_));
    ASSERT_NO_FATAL_FAILURE(ExpectOk(RunReturn(back), stop));
    ASSERT_NO_FATAL_FAILURE(ExpectTarget(back, "complete"));
  }
}

TEST_F(ReturnTest, SaysWhyNot) {
  ExpectRefused(RunReturn(disk_), "nothing is parked");
  ASSERT_NO_FATAL_FAILURE(ExpectStopped(RunMigrate(disk_, "staged"), "staged"));
  ExpectRefused(RunReturn(disk_), "for the first time");
  ASSERT_NO_FATAL_FAILURE(ExpectOk(RunMigrate(disk_), "migrate"));
  ExpectOk(RunReturn(disk_), "an armed disk is left alone");
  ASSERT_NO_FATAL_FAILURE(Work(disk_));
  ASSERT_NO_FATAL_FAILURE(
      ExpectStopped(RunRollback(disk_, "parked"), "parked"));
  ExpectRefused(RunReturn(disk_), "bootagent rollback finishes it");
  ASSERT_NO_FATAL_FAILURE(ExpectOk(RunRollback(disk_), "rollback"));
  ExpectRefused(RunMigrate(disk_), "bootagent return");
  ASSERT_NO_FATAL_FAILURE(ExpectOk(RunReturn(disk_), "return"));
  ExpectOk(RunReturn(disk_), "a second time");
  ASSERT_NO_FATAL_FAILURE(ExpectTarget(disk_));
}

TEST_F(ReturnTest, RegionFileThatWasCutIsRefused) {
  ASSERT_NO_FATAL_FAILURE(Park(disk_));
  const std::string cut = Copy(disk_, "cut");
  // Somebody has made room.
  auto mount = LoopMount::MountExt4(cut, kRoot);
  ASSERT_TRUE(mount.has_value()) << mount.error().message;
  Run("cd " + mount->directory() + " && truncate -s -4M .bootstream-region");
  ASSERT_TRUE(mount->Unmount().has_value());
  ExpectRefused(RunReturn(cut), "bootagent forget");
  EXPECT_EQ(PhaseOf(cut), "parked");
  ASSERT_NO_FATAL_FAILURE(ExpectOk(RunReturn(disk_), "the file in its place"));
}

TEST_F(ReturnTest, CleanBootChunkThatHasRottedIsFetchedAgain) {
  ASSERT_NO_FATAL_FAILURE(Park(disk_));
  const auto fetches = access_->source().fetches().size();
  const std::string disk = Copy(disk_, "rotten");
  const ImageChunk kernel{(kTargetBoot.offset + 2 * kMiB) / kChunk};
  {
    // Where it lies while it is parked.
    auto device = *PosixBlockDevice::Open(disk, OpenMode::kReadOnly);
    StopPoints stops;
    Progress progress(stderr, Progress::Style::kSilent);
    const Job job{disk, device, {}, stops, progress, 32};
    const auto located = RunInline(Locate(job));
    ASSERT_TRUE(located.has_value() && located->superblock.has_value());
    const auto map = RunInline(OpenMigration(job, *located->superblock, true));
    ASSERT_TRUE(map.has_value());
    const ChunkState state = map->store->map().Get(kernel);
    ASSERT_TRUE(state.location.on_disk() && state.dirty == 0);
    Flip(disk, state.location.chunk().value * kChunk + 777);
  }
  access_->source().FailNext({ErrorCode::kUnavailable, "no server"}, true);
  const auto status = RunReturn(disk);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(PhaseOf(disk), "released");
  ASSERT_NO_FATAL_FAILURE(ExpectSource(disk, disk_));
  access_->source().StopFailing();
  ASSERT_NO_FATAL_FAILURE(ExpectOk(RunReturn(disk), "with a server"));
  EXPECT_GT(access_->source().fetches().size(), fetches);
  ASSERT_NO_FATAL_FAILURE(ExpectTarget(disk));
}

}  // namespace
}  // namespace bootstream
