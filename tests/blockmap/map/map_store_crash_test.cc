#include <gtest/gtest.h>

#include <optional>
#include <random>

#include "tests/blockmap/map/map_workload.h"
#include "tests/support/crash_device.h"
#include "tests/support/map_fixture.h"

namespace bootstream {
namespace {

constexpr uint64_t kSteps = 60;
constexpr uint64_t kFlushesOfCreate = 3;

struct Counts {
  uint64_t flushes = 0;
  uint64_t writes = 0;
};

Counts CountsOf(uint64_t seed) {
  CrashDevice device(MapWorkload::SourceDisk());
  MapWorkload workload(device, seed);
  EXPECT_TRUE(workload.Create());
  EXPECT_TRUE(workload.Run(kSteps));
  return {device.flush_count(), device.write_count()};
}

// Whatever a power cut leaves of `device` must be a state that `workload`
// allows.
void ExpectSurvives(const CrashDevice& device, const MapWorkload& workload,
                    uint64_t fate_seed) {
  std::mt19937_64 random(fate_seed);
  CrashDevice after(device.AfterPowerCut(random));
  EXPECT_EQ(MapWorkload::Check(after, workload.candidates()), "");
}

class MapStoreCrashTest : public testing::TestWithParam<uint64_t> {};

TEST_P(MapStoreCrashTest, EveryPowerCutAtAFlushLeavesTheOldMapOrTheNew) {
  const uint64_t seed = GetParam();
  const Counts counts = CountsOf(seed);
  for (uint64_t cut = kFlushesOfCreate; cut < counts.flushes; ++cut) {
    SCOPED_TRACE("seed " + std::to_string(seed) + " flush " +
                 std::to_string(cut));
    CrashDevice device(MapWorkload::SourceDisk());
    MapWorkload workload(device, seed);
    device.CutPowerAtFlush(cut);
    ASSERT_TRUE(workload.Create());
    ASSERT_FALSE(workload.Run(kSteps));
    for (uint64_t fate = 0; fate < 3; ++fate) {
      ExpectSurvives(device, workload, seed * 1000 + cut * 10 + fate);
    }
    if (HasFailure()) return;
  }
}

TEST_P(MapStoreCrashTest, EveryPowerCutAtAWriteLeavesTheOldMapOrTheNew) {
  const uint64_t seed = GetParam();
  const Counts counts = CountsOf(seed);
  std::mt19937_64 random(seed);
  for (int i = 0; i < 40; ++i) {
    const uint64_t cut = random() % counts.writes;
    SCOPED_TRACE("seed " + std::to_string(seed) + " write " +
                 std::to_string(cut));
    CrashDevice device(MapWorkload::SourceDisk());
    MapWorkload workload(device, seed);
    device.CutPowerAtWrite(cut);
    if (!workload.Create()) continue;
    ASSERT_FALSE(workload.Run(kSteps));
    ExpectSurvives(device, workload, random());
    if (HasFailure()) return;
  }
}

TEST_P(MapStoreCrashTest, AfterAFailedWriteOpeningFindsTheOldMapOrTheNew) {
  const uint64_t seed = GetParam();
  std::mt19937_64 random(seed);
  for (int i = 0; i < 20; ++i) {
    SCOPED_TRACE("seed " + std::to_string(seed) + " round " +
                 std::to_string(i));
    CrashDevice device(MapWorkload::SourceDisk());
    MapWorkload workload(device, seed);
    ASSERT_TRUE(workload.Create());
    // A cable that comes loose now and then; nothing is lost but the request,
    // and the process starts anew.
    for (int life = 0; life < 4; ++life) {
      if (random() % 2 == 0) {
        device.FailFlush(random() % 30);
      } else {
        device.FailWrite(random() % 80);
      }
      (void)workload.Run(kSteps / 2);
      device.FailFlush(~uint64_t{0} / 2);
      device.FailWrite(~uint64_t{0} / 2);
      ASSERT_EQ(workload.Reopen(), "");
    }
    device.CutPowerAtFlush(random() % 20);
    if (workload.Run(kSteps)) device.CutPower();
    ExpectSurvives(device, workload, random());
    if (HasFailure()) return;
  }
}

TEST_P(MapStoreCrashTest, LivesThroughManyPowerCuts) {
  const uint64_t seed = GetParam();
  std::mt19937_64 random(seed);
  CrashDevice first(MapWorkload::SourceDisk());
  MapWorkload workload(first, seed);
  ASSERT_TRUE(workload.Create());
  for (int life = 0; life < 40; ++life) {
    SCOPED_TRACE("seed " + std::to_string(seed) + " life " +
                 std::to_string(life));
    if (random() % 2 == 0) {
      first.CutPowerAtFlush(random() % 40);
    } else {
      first.CutPowerAtWrite(random() % 100);
    }
    if (workload.Run(random() % kSteps)) first.CutPower();
    first.RestorePower(random);
    ASSERT_EQ(workload.Reopen(), "");
  }
}

TEST_P(MapStoreCrashTest, KeptChangesOutliveEveryDeathOfTheProcess) {
  const uint64_t seed = GetParam();
  std::mt19937_64 random(seed);
  CrashDevice device(MapWorkload::SourceDisk());
  MapWorkload workload(device, seed);
  ASSERT_TRUE(workload.Create());
  ASSERT_TRUE(workload.KeepChanges());
  // At a request that is not done the process dies; what was done before is
  // there, for the power stays.
  const auto die_at = [&](uint64_t flushes, uint64_t writes) {
    if (random() % 2 == 0) {
      device.StopAtFlush(random() % flushes);
    } else {
      device.StopAtWrite(random() % writes);
    }
  };
  for (int life = 0; life < 80; ++life) {
    SCOPED_TRACE("seed " + std::to_string(seed) + " life " +
                 std::to_string(life));
    die_at(20, 60);
    (void)workload.Run(random() % kSteps);
    // Also while its successor sees to that.
    for (int death = 0; death < 3 && random() % 2 == 0; ++death) {
      device.GoOn();
      die_at(4, 8);
      (void)workload.RestartProcess();
    }
    device.GoOn();
    ASSERT_EQ(workload.RestartProcess(), "");
  }
}

TEST_P(MapStoreCrashTest, PowerCutAfterADeathOfTheProcessLeavesAMap) {
  const uint64_t seed = GetParam();
  std::mt19937_64 random(seed);
  for (int i = 0; i < 40; ++i) {
    SCOPED_TRACE("seed " + std::to_string(seed) + " round " +
                 std::to_string(i));
    CrashDevice device(MapWorkload::SourceDisk());
    MapWorkload workload(device, seed);
    ASSERT_TRUE(workload.Create());
    ASSERT_TRUE(workload.KeepChanges());
    device.StopAtWrite(random() % 80);
    (void)workload.Run(kSteps);
    device.GoOn();
    device.CutPowerAtWrite(random() % 6);
    if (workload.RestartProcess().empty()) device.CutPower();
    ExpectSurvives(device, workload, random());
    if (HasFailure()) return;
  }
}

// Places in the region that take no write, more of them as time goes by: the
// map goes around them, and no power cut and no death in between loses
// anything.
TEST_P(MapStoreCrashTest, GoesAroundPlacesThatTakeNoWrite) {
  const uint64_t seed = GetParam();
  std::mt19937_64 random(seed);
  CrashDevice device(MapWorkload::SourceDisk());
  MapWorkload workload(device, seed);
  ASSERT_TRUE(workload.Create());
  for (int life = 0; life < 24; ++life) {
    SCOPED_TRACE("seed " + std::to_string(seed) + " life " +
                 std::to_string(life));
    // A whole chunk, or one block of it; not where the superblocks are.
    uint64_t chunk = 0;
    do {
      chunk = 41 + random() % 90;
    } while (workload.HoldsSuperblock(DiskChunk{chunk}));
    const uint64_t block = random() % (MapFixture::kChunk / kBlockBytes);
    const bool whole = random() % 2 == 0;
    device.FailWritesTo(
        chunk * MapFixture::kChunk + (whole ? 0 : block * kBlockBytes),
        whole ? MapFixture::kChunk : kBlockBytes);
    ASSERT_TRUE(workload.Run(kSteps / 2));
    ASSERT_EQ(workload.Reopen(), "");
    device.CutPowerAtWrite(random() % 60);
    if (workload.Run(kSteps / 2)) device.CutPower();
    device.RestorePower(random);
    ASSERT_EQ(workload.Reopen(), "");
  }
}

// A workload that has come so far, and whose journal takes no write any more.
class BadJournal {
 public:
  BadJournal(uint64_t seed, bool keeps)
      : device_(MapWorkload::SourceDisk()), workload_(device_, seed) {
    EXPECT_TRUE(workload_.Create());
    EXPECT_TRUE(workload_.Run(kSteps));
    EXPECT_TRUE(workload_.Checkpoint());
    EXPECT_TRUE(!keeps || workload_.KeepChanges());
    while (workload_.journal_chunk() != bad_) {
      bad_ = workload_.journal_chunk();
      EXPECT_TRUE(workload_.Run(3));
    }
    device_.FailWritesTo(bad_.value * MapFixture::kChunk, MapFixture::kChunk);
  }
  CrashDevice& device() { return device_; }
  MapWorkload& workload() { return workload_; }
  bool Write(bool checkpoint) {
    return checkpoint ? workload_.Checkpoint() : workload_.Commit();
  }

 private:
  CrashDevice device_;
  MapWorkload workload_;
  DiskChunk bad_{kNone};
};

TEST_P(MapStoreCrashTest, EveryPowerCutOnTheWayElsewhereLeavesTheOldOrTheNew) {
  for (const bool checkpoint : {false, true}) {
    for (uint64_t cut = 0;; ++cut) {
      SCOPED_TRACE("write " + std::to_string(cut));
      BadJournal bad(GetParam(), false);
      bad.device().CutPowerAtWrite(cut);
      if (bad.Write(checkpoint) && bad.device().has_power()) break;
      for (uint64_t fate = 0; fate < 8; ++fate) {
        ExpectSurvives(bad.device(), bad.workload(), cut * 10 + fate);
      }
      if (HasFailure()) return;
    }
  }
}

TEST_P(MapStoreCrashTest, ChangesOutliveEveryDeathOnTheWayElsewhere) {
  for (const bool checkpoint : {false, true}) {
    for (uint64_t stop = 0;; ++stop) {
      SCOPED_TRACE("write " + std::to_string(stop));
      BadJournal bad(GetParam(), true);
      bad.device().StopAtWrite(stop);
      const bool written = bad.Write(checkpoint);
      bad.device().GoOn();
      ASSERT_EQ(bad.workload().RestartProcess(), "");
      if (written) break;
    }
  }
}

TEST_P(MapStoreCrashTest, ChangesOutliveTheProcessAroundPlacesThatTakeNoWrite) {
  const uint64_t seed = GetParam();
  std::mt19937_64 random(seed);
  CrashDevice device(MapWorkload::SourceDisk());
  MapWorkload workload(device, seed);
  ASSERT_TRUE(workload.Create());
  ASSERT_TRUE(workload.KeepChanges());
  for (int life = 0; life < 40; ++life) {
    SCOPED_TRACE("seed " + std::to_string(seed) + " life " +
                 std::to_string(life));
    device.FailWrite(random() % 20);
    device.StopAtWrite(random() % 60);
    (void)workload.Run(random() % kSteps);
    if (random() % 2 == 0) {
      device.GoOn();
      device.FailWrite(random() % 4);
      device.StopAtWrite(random() % 8);
      (void)workload.RestartProcess();
    }
    device.GoOn();
    ASSERT_EQ(workload.RestartProcess(), "");
  }
}

TEST_P(MapStoreCrashTest, PowerCutInCreateLeavesNothingOrAnEmptyMap) {
  std::mt19937_64 random(GetParam());
  for (uint64_t cut = 0; cut < 25; ++cut) {
    CrashDevice device(MapWorkload::SourceDisk());
    MapWorkload workload(device, GetParam());
    cut < kFlushesOfCreate ? device.CutPowerAtFlush(cut)
                           : device.CutPowerAtWrite(cut - kFlushesOfCreate);
    if (workload.Create()) break;
    for (int fate = 0; fate < 40; ++fate) {
      CrashDevice after(device.AfterPowerCut(random));
      const auto order = MapFixture::ScanOrder();
      const auto sb = RunInline(MapStore::ScanForSuperblock(
          after, MapFixture::kChunk, MapFixture::Id(), order));
      if (!sb) continue;
      const auto store =
          RunInline(MapStore::Open(after, *sb, MapFixture::Facts()));
      ASSERT_TRUE(store) << store.error().message;
      EXPECT_EQ((*store)->map().chunk_count(), 0U);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, MapStoreCrashTest,
                         testing::Range<uint64_t>(1, 9));

}  // namespace
}  // namespace bootstream
