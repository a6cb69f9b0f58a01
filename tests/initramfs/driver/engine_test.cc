#include "initramfs/driver/engine.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "tests/support/engine_rig.h"

namespace bootstream {
namespace {

constexpr uint64_t kChunk = EngineRig::kChunk;

std::vector<std::byte> Part(const std::vector<std::byte>& bytes,
                            uint64_t offset, uint64_t size) {
  return {bytes.begin() + static_cast<ptrdiff_t>(offset),
          bytes.begin() + static_cast<ptrdiff_t>(offset + size)};
}

TEST(StreamEngineTest, ReadOfAbsentChunkIsFetchedOnceAndKept) {
  EngineRig rig;
  EXPECT_EQ(rig.Read(0, 8192), Part(rig.image(), 0, 8192));
  EXPECT_EQ(rig.Read(kChunk - 4096, 4096),
            Part(rig.image(), kChunk - 4096, 4096));
  EXPECT_EQ(rig.source().fetches().size(), 1U);
}

// A disk that takes its time with what has come.
class SlowStoreTest : public testing::Test {
 protected:
  // A miss of `chunk` that comes, and is not stored until LetGo.
  void Miss(uint64_t chunk) {
    rig_.source().Hold();
    Spawn(Read(chunk));
    rig_.faults().HoldOne();
    rig_.source().Release();
  }
  Task<void> Read(uint64_t chunk) {
    std::vector<std::byte> out(4096);
    if (co_await rig_.engine().Read(chunk * kChunk, out)) {
      EXPECT_EQ(out, Part(rig_.image(), chunk * kChunk, 4096));
      ++answered_;
    }
  }

  EngineRig rig_;
  int answered_ = 0;
};

TEST_F(SlowStoreTest, MissIsAnsweredBeforeItIsStored) {
  Miss(3);
  ASSERT_TRUE(rig_.faults().holds_one());
  EXPECT_EQ(answered_, 1);
  Spawn(Read(2));  // and others do not wait for it
  EXPECT_EQ(answered_, 2);
  rig_.faults().LetGo();
  EXPECT_EQ(rig_.Read(3 * kChunk, kChunk),
            Part(rig_.image(), 3 * kChunk, kChunk));
  EXPECT_EQ(rig_.source().fetches().size(), 2U);
}

TEST_F(SlowStoreTest, DiskThatIsFarBehindIsWaitedFor) {
  rig_.RestartWith({.unstored_bytes_max = kChunk / 2});
  Miss(3);  // is answered before anybody knows
  EXPECT_EQ(answered_, 1);
  Miss(2);
  EXPECT_EQ(answered_, 1);
  rig_.faults().LetGo();
  EXPECT_EQ(answered_, 1);
  rig_.faults().LetGo();
  EXPECT_EQ(answered_, 2);
}

TEST(StreamEngineTest, WhatIsReadInSequenceIsFetchedAhead) {
  EngineRig rig;
  rig.RestartWith({.read_ahead_bytes = 8 * kChunk});
  rig.Read(12 * kChunk, kChunk);
  rig.Read(13 * kChunk, kChunk);
  rig.Read(14 * kChunk, kChunk);
  EXPECT_FALSE(rig.engine().IsMissing(ImageChunk{15}));
  const size_t fetches = rig.source().fetches().size();
  EXPECT_EQ(rig.Read(15 * kChunk, kChunk),
            Part(rig.image(), 15 * kChunk, kChunk));
  EXPECT_EQ(rig.source().fetches()[fetches - 1].fetch_class,
            FetchClass::kReadAhead);
}

TEST(StreamEngineTest, NothingIsReadAheadOfADiskThatIsFarBehind) {
  EngineRig rig;
  rig.RestartWith(
      {.read_ahead_bytes = 8 * kChunk, .unstored_bytes_max = kChunk / 2});
  rig.faults().HoldOne();
  std::vector<std::byte> out(kChunk);
  const auto read = [&](uint64_t chunk) -> Task<void> {
    (void)co_await rig.engine().Read(chunk * kChunk, out);
  };
  for (const uint64_t chunk : {12, 13, 14, 15}) Spawn(read(chunk));
  for (const auto& call : rig.source().fetches()) {
    EXPECT_EQ(call.fetch_class, FetchClass::kDemand);
  }
  rig.faults().LetGo();
}

TEST(StreamEngineTest, KeptChunkSurvivesARestartAfterTheLazyCommit) {
  EngineRig rig;
  rig.Read(0, 4096);
  rig.executor().Advance(std::chrono::seconds(2));
  rig.Restart();
  EXPECT_EQ(rig.Read(0, 4096), Part(rig.image(), 0, 4096));
  EXPECT_TRUE(rig.source().fetches().empty());
}

TEST(StreamEngineTest, LostRecordOfACleanChunkCostsASecondDownload) {
  EngineRig rig;
  rig.Read(0, 4096);
  rig.Restart();
  EXPECT_EQ(rig.Read(0, 4096), Part(rig.image(), 0, 4096));
  EXPECT_EQ(rig.source().fetches().size(), 1U);
}

TEST(StreamEngineTest, WriteThatNobodyFlushedOutlivesTheProcess) {
  EngineRig rig;
  rig.KeepChanges();
  std::vector<std::byte> expected = rig.image();
  const auto write = [&](uint64_t offset, uint64_t size, uint8_t value) {
    rig.Write(offset, size, std::byte{value});
    std::memset(expected.data() + offset, value, size);
  };
  rig.Read(3 * kChunk, kChunk);
  write(3 * kChunk, 4096, 1);      // clean: commits an intent
  write(4 * kChunk, 4096, 2);      // pinned
  write(kChunk, 8192, 3);          // absent
  write(2 * kChunk + 100, 50, 4);  // a patch
  write(8 * kChunk + 100, 50, 5);  // of a chunk of zeroes
  ASSERT_TRUE(rig.store().has_changes());
  rig.Restart();
  EXPECT_FALSE(rig.store().has_changes());
  EXPECT_EQ(rig.Read(0, expected.size()), expected);
  rig.Restart();
  EXPECT_EQ(rig.Read(0, expected.size()), expected);
}

TEST(StreamEngineTest, ZeroesThatNobodyFlushedOutliveTheProcess) {
  EngineRig rig;
  rig.KeepChanges();
  rig.Write(kChunk, kChunk, std::byte{1});
  ASSERT_TRUE(RunInline(rig.engine().Flush()));
  ASSERT_TRUE(RunInline(rig.engine().WriteZeroes(kChunk, kChunk, false)));
  ASSERT_TRUE(RunInline(rig.engine().Discard(2 * kChunk, kChunk)));
  rig.Restart();
  EXPECT_EQ(rig.Read(kChunk, 2 * kChunk), std::vector<std::byte>(2 * kChunk));
}

TEST(StreamEngineTest, ZeroChunksNeedNeitherNetworkNorSpace) {
  EngineRig rig;
  const uint64_t free_before = rig.store().region().free_count();
  EXPECT_EQ(rig.Read(8 * kChunk, 4 * kChunk),
            std::vector<std::byte>(4 * kChunk));
  EXPECT_TRUE(rig.source().fetches().empty());
  EXPECT_EQ(rig.store().region().free_count(), free_before);
}

TEST(StreamEngineTest, UnalignedReadAcrossChunksIsWhole) {
  EngineRig rig;
  const uint64_t from = 2 * kChunk - 777;
  EXPECT_EQ(rig.Read(from, kChunk + 2000),
            Part(rig.image(), from, kChunk + 2000));
  EXPECT_EQ(rig.source().fetches().size(), 3U);
}

TEST(StreamEngineTest, HomeIsChosenWhenItIsOursAndFree) {
  EngineRig rig;
  rig.Read(16 * kChunk, 4096);
  EXPECT_EQ(rig.store().map().Get(ImageChunk{16}).location,
            Location::At(DiskChunk{16}));
  rig.Read(0, 4096);
  EXPECT_NE(rig.store().map().Get(ImageChunk{0}).location,
            Location::At(DiskChunk{0}));
  EXPECT_EQ(rig.engine().statistics().demand_misses_stored_in_region, 1U);
}

TEST(StreamEngineTest, NothingOutsideTheRegionIsEverWritten) {
  EngineRig rig;
  for (uint64_t chunk = 0; chunk < 32; ++chunk) {
    if (chunk == 4 || chunk == 5) continue;  // pinned
    rig.Write(chunk * kChunk + 4096, 8192, std::byte{3});
    rig.Read(chunk * kChunk, kChunk);
  }
  for (uint64_t chunk = 0; chunk < EngineRig::kDiskChunks; ++chunk) {
    const bool ours =
        (chunk >= 16 && chunk < 24) || (chunk >= 64 && chunk < 144);
    if (ours) continue;
    EXPECT_EQ(rig.SourceChunk(chunk),
              Part(rig.old_disk(), chunk * kChunk, kChunk))
        << chunk;
  }
}

TEST(StreamEngineTest, WaitersOfOneChunkShareOneDownload) {
  EngineRig rig;
  rig.source().Hold();
  std::vector<std::byte> first(4096), second(4096);
  int answered = 0;
  const auto read = [&](uint64_t offset,
                        std::vector<std::byte>& out) -> Task<void> {
    EXPECT_TRUE((co_await rig.engine().Read(offset, out)).has_value());
    ++answered;
  };
  Spawn(read(0, first));
  Spawn(read(8192, second));
  EXPECT_EQ(answered, 0);
  ASSERT_TRUE(rig.source().Complete(ImageChunk{0}));
  EXPECT_EQ(answered, 2);
  EXPECT_EQ(rig.source().fetches().size(), 1U);
  EXPECT_EQ(second, Part(rig.image(), 8192, 4096));
}

TEST(StreamEngineTest, EveryWaiterGetsTheErrorOfAFailedDownload) {
  EngineRig rig;
  rig.source().Hold();
  int failed = 0;
  std::vector<std::byte> out(4096);
  const auto read = [&]() -> Task<void> {
    if (!co_await rig.engine().Read(0, out)) ++failed;
  };
  Spawn(read());
  Spawn(read());
  rig.source().Fail(ImageChunk{0}, Error{ErrorCode::kUnavailable, "gone"});
  EXPECT_EQ(failed, 2);
  rig.source().Release();
  EXPECT_EQ(rig.Read(0, 4096), Part(rig.image(), 0, 4096));
}

TEST(StreamEngineTest, WriteDuringADownloadIsNotReplacedByIt) {
  EngineRig rig;
  rig.source().Hold();
  std::vector<std::byte> out(4096);
  const auto read = [&]() -> Task<void> {
    EXPECT_TRUE((co_await rig.engine().Read(0, out)).has_value());
  };
  Spawn(read());
  rig.Write(4096, 4096, std::byte{7});
  ASSERT_TRUE(rig.source().Complete(ImageChunk{0}));
  EXPECT_EQ(rig.Read(4096, 4096), std::vector<std::byte>(4096, std::byte{7}));
  EXPECT_EQ(rig.Read(8192, 4096), Part(rig.image(), 8192, 4096));
}

TEST(StreamEngineTest, WriteNeverWaitsForTheNetwork) {
  EngineRig rig;
  rig.source().Hold();
  rig.Write(100, 50, std::byte{9});            // part of a block: a patch
  rig.Write(4096, 4096, std::byte{8});         // a block
  rig.Write(8 * kChunk + 5, 3, std::byte{7});  // part of a zero block
  EXPECT_TRUE(rig.source().fetches().empty());
  ASSERT_TRUE(RunInline(rig.engine().Flush()).has_value());
  rig.Restart();
  auto expected = Part(rig.image(), 0, 8192);
  std::memset(expected.data() + 100, 9, 50);
  std::memset(expected.data() + 4096, 8, 4096);
  EXPECT_EQ(rig.Read(0, 8192), expected);
  EXPECT_EQ(rig.Read(8 * kChunk + 4, 5),
            (std::vector<std::byte>{std::byte{0}, std::byte{7}, std::byte{7},
                                    std::byte{7}, std::byte{0}}));
}

TEST(StreamEngineTest, FirstOverwriteOfACleanBlockIsPrecededByADurableIntent) {
  EngineRig rig;
  rig.Read(0, kChunk);
  ASSERT_TRUE(RunInline(rig.engine().Flush()).has_value());
  rig.Write(4096, 4096, std::byte{5});
  // No flush was asked for: only the intent is durable.
  rig.Restart();
  EXPECT_EQ(rig.store().map().Get(ImageChunk{0}).dirty, 2U);
  EXPECT_EQ(rig.engine().IsMissing(ImageChunk{0}), false);
}

TEST(StreamEngineTest, FlushedWriteSurvivesARestart) {
  EngineRig rig;
  rig.Write(3 * kChunk + 4096, 20480, std::byte{5});
  ASSERT_TRUE(RunInline(rig.engine().Flush()).has_value());
  rig.Restart();
  EXPECT_EQ(rig.Read(3 * kChunk + 4096, 20480),
            std::vector<std::byte>(20480, std::byte{5}));
  EXPECT_EQ(rig.Read(3 * kChunk, 4096), Part(rig.image(), 3 * kChunk, 4096));
}

TEST(StreamEngineTest, PinnedWriteGoesHomeAndItsOccupantIsSaved) {
  EngineRig rig;
  rig.Read(4 * kChunk, 4096);
  EXPECT_NE(rig.store().map().Get(ImageChunk{4}).location,
            Location::At(DiskChunk{4}));
  rig.Write(4 * kChunk + 8192, 4096, std::byte{6});
  EXPECT_EQ(rig.store().map().Get(ImageChunk{4}).location,
            Location::At(DiskChunk{4}));
  EXPECT_EQ(rig.SourceChunk(4), Part(rig.old_disk(), 4 * kChunk, kChunk));
  auto expected = Part(rig.image(), 4 * kChunk, kChunk);
  std::memset(expected.data() + 8192, 6, 4096);
  EXPECT_EQ(rig.Read(4 * kChunk, kChunk), expected);
  const auto home = rig.device().bytes().subspan(4 * kChunk, kChunk);
  EXPECT_TRUE(std::equal(home.begin(), home.end(), expected.begin()));
}

TEST(StreamEngineTest, DiscardedChunkIsZeroAndGivesItsPlaceBack) {
  EngineRig rig;
  rig.Read(0, kChunk);
  ASSERT_TRUE(RunInline(rig.engine().Flush()).has_value());
  const uint64_t free_before = rig.store().region().free_count();
  ASSERT_TRUE(RunInline(rig.engine().Discard(0, kChunk)).has_value());
  ASSERT_TRUE(RunInline(rig.engine().Flush()).has_value());
  EXPECT_EQ(rig.store().region().free_count(), free_before + 1);
  EXPECT_EQ(rig.Read(0, kChunk), std::vector<std::byte>(kChunk));
  rig.Write(0, 100, std::byte{1});
  EXPECT_EQ(rig.Read(100, 4096), std::vector<std::byte>(4096));
  EXPECT_EQ(rig.source().fetches().size(), 1U);
}

TEST(StreamEngineTest, DiscardOfPinnedChunksIsIgnored) {
  EngineRig rig;
  ASSERT_TRUE(RunInline(rig.engine().Discard(4 * kChunk, kChunk)).has_value());
  EXPECT_EQ(rig.Read(4 * kChunk, kChunk),
            Part(rig.image(), 4 * kChunk, kChunk));
}

TEST(StreamEngineTest, ZeroesWrittenToAPinnedChunkAreOnTheDiskAtHome) {
  EngineRig rig;
  ASSERT_TRUE(RunInline(rig.engine().WriteZeroes(4 * kChunk, kChunk, false))
                  .has_value());
  EXPECT_EQ(rig.store().map().Get(ImageChunk{4}).location,
            Location::At(DiskChunk{4}));
  EXPECT_EQ(rig.SourceChunk(4), Part(rig.old_disk(), 4 * kChunk, kChunk));
  const auto home = rig.device().bytes().subspan(4 * kChunk, kChunk);
  EXPECT_TRUE(std::ranges::all_of(
      home, [](std::byte byte) { return byte == std::byte{0}; }));
}

TEST(StreamEngineTest, FullRegionEvictsCleanChunksAndNeverWrittenOnes) {
  EngineRig rig({{64, 30}});
  rig.Write(20 * kChunk, 4096, std::byte{4});
  for (int round = 0; round < 2; ++round) {
    for (uint64_t chunk = 0; chunk < 32; ++chunk) {
      if (chunk == 20) continue;
      ASSERT_EQ(rig.Read(chunk * kChunk, kChunk),
                Part(rig.image(), chunk * kChunk, kChunk))
          << chunk;
    }
  }
  EXPECT_GT(rig.engine().statistics().evicted_chunks, 0U);
  EXPECT_EQ(rig.Read(20 * kChunk, 4096),
            std::vector<std::byte>(4096, std::byte{4}));
}

TEST(StreamEngineTest, PinnedWriteIntoAFullRegionEvictsCleanChunks) {
  EngineRig rig({{64, 30}});
  rig.Read(0, 32 * kChunk);  // demand takes even what is spare
  rig.Write(4 * kChunk, 4096, std::byte{6});
  rig.Write(5 * kChunk + 8192, 4096, std::byte{7});
  EXPECT_EQ(rig.store().map().Get(ImageChunk{4}).location,
            Location::At(DiskChunk{4}));
  EXPECT_EQ(rig.SourceChunk(4), Part(rig.old_disk(), 4 * kChunk, kChunk));
  EXPECT_EQ(rig.SourceChunk(5), Part(rig.old_disk(), 5 * kChunk, kChunk));
  EXPECT_EQ(rig.Read(5 * kChunk + 8192, 4096),
            std::vector<std::byte>(4096, std::byte{7}));
}

TEST(StreamEngineTest, SourceThatIsGivenUpMakesRoom) {
  EngineRig rig({{64, 30}});
  auto model = rig.image();
  rig.Read(0, 2 * kChunk);
  rig.Write(4 * kChunk, 4096, std::byte{6});
  rig.Write(9 * kChunk, 4096, std::byte{7});
  ASSERT_TRUE(RunInline(rig.engine().GiveUpSource()));
  rig.Write(5 * kChunk, 4096, std::byte{8});
  std::memset(model.data() + 4 * kChunk, 6, 4096);
  std::memset(model.data() + 9 * kChunk, 7, 4096);
  std::memset(model.data() + 5 * kChunk, 8, 4096);
  EXPECT_EQ(rig.Read(0, 32 * kChunk), model);
  // What comes now goes home.
  EXPECT_EQ(rig.engine_state(30).location, Location::At(DiskChunk{30}));
  EXPECT_EQ(rig.engine_state(5).location, Location::At(DiskChunk{5}));
  ASSERT_TRUE(RunInline(rig.engine().Flush()).has_value());
  rig.Restart();
  EXPECT_EQ(rig.Read(0, 32 * kChunk), model);
}

// Random reads, writes, zeroes, discards, flushes, held downloads and restarts
// after a flush, against a plain copy of the image.
TEST(StreamEngineTest, RandomHistoriesReadWhatWasWritten) {
  for (uint32_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(seed);
    EngineRig rig;
    std::mt19937 random(seed);
    std::vector<std::byte> model = rig.image();
    const auto pick = [&](uint64_t bound) { return random() % bound; };
    for (int step = 0; step < 300; ++step) {
      const bool aligned = pick(2) == 0;
      uint64_t offset = pick(model.size());
      uint64_t size = 1 + pick(pick(4) == 0 ? 3 * kChunk : 9000);
      if (aligned) {
        offset = offset / 512 * 512;
        size = (size + 511) / 512 * 512;
      }
      size = std::min<uint64_t>(size, model.size() - offset);
      switch (pick(8)) {
        case 0:
        case 1:
        case 2:
          ASSERT_EQ(rig.Read(offset, size), Part(model, offset, size))
              << "step " << step;
          break;
        case 3:
        case 4: {
          const std::byte value{static_cast<uint8_t>(random())};
          rig.Write(offset, size, value);
          std::memset(model.data() + offset, static_cast<int>(value), size);
          break;
        }
        case 5:
          ASSERT_TRUE(RunInline(rig.engine().WriteZeroes(offset, size, false)));
          std::memset(model.data() + offset, 0, size);
          break;
        case 6:
          ASSERT_TRUE(RunInline(rig.engine().Flush()).has_value());
          if (pick(4) == 0) rig.Restart();
          break;
        case 7:
          ASSERT_TRUE(
              RunInline(rig.engine().Hydrate(ImageChunk{offset / kChunk},
                                             FetchClass::kBackfill))
                  .has_value());
          break;
      }
    }
    ASSERT_EQ(rig.Read(0, model.size()), model);
  }
}

// The driver is told to end while its background work waits for the disk.
TEST(StreamEngineTest, DrainWaitsForAuditsAndChecksAndOwnCommits) {
  const auto ended = [](Task<Status> task, bool& done) -> Task<void> {
    EXPECT_TRUE((co_await std::move(task)).has_value());
    done = true;
  };
  const auto check = [](StreamEngine& engine) -> Task<Status> {
    const auto result = co_await engine.CheckChunk(ImageChunk{0});
    co_return result ? OkStatus() : Status(result.error());
  };
  const auto begin = [&](EngineRig& rig, int what) {
    if (what == 0) return rig.engine().AuditBootChunk(ImageChunk{0});
    return check(rig.engine());
  };
  for (int what = 0; what < 3; ++what) {
    EngineRig rig({{0, 8}, {64, 80}});  // image chunk 0 goes home
    rig.Read(0, kChunk);
    if (what < 2) rig.executor().Advance(std::chrono::seconds(2));
    rig.faults().HoldOne();
    bool work_done = what == 2;
    bool drained = false;
    if (what < 2) Spawn(ended(begin(rig, what), work_done));
    // The commit that no flush asked for.
    if (what == 2) rig.executor().Advance(std::chrono::seconds(2));
    ASSERT_TRUE(rig.faults().holds_one()) << what;
    Spawn(ended(rig.engine().Drain(), drained));
    rig.executor().Advance(std::chrono::seconds(2));
    EXPECT_FALSE(drained) << what;
    rig.faults().LetGo();
    rig.executor().Advance(std::chrono::seconds(2));
    EXPECT_TRUE(work_done && drained) << what;
  }
}

}  // namespace
}  // namespace bootstream
