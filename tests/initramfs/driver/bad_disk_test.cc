#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <random>

#include "blockmap/disk/find_migration.h"
#include "initramfs/driver/checker.h"
#include "initramfs/driver/engine.h"
#include "tests/support/engine_rig.h"
#include "tests/support/uncertain_image.h"

// A disk that does not give back what it was given: what the server has as well
// is fetched again, and counted; everything else is an I/O error with its
// address, and nothing else is harmed.

namespace bootstream {
namespace {

constexpr uint64_t kChunk = EngineRig::kChunk;

class EngineBadDiskTest : public testing::Test {
 protected:
  std::vector<std::byte> Image(uint64_t offset, uint64_t size) const {
    return {rig_.image().begin() + static_cast<ptrdiff_t>(offset),
            rig_.image().begin() + static_cast<ptrdiff_t>(offset + size)};
  }
  Status TryRead(uint64_t offset, std::vector<std::byte>& out) {
    return RunInline(rig_.engine().Read(offset, out));
  }
  Status TryWrite(uint64_t offset, uint64_t size, std::byte value) {
    const std::vector<std::byte> data(size, value);
    return RunInline(rig_.engine().Write(offset, data, false));
  }
  Status Flush() { return RunInline(rig_.engine().Flush()); }
  uint64_t PlaceOf(uint64_t chunk) const {
    const Location at = rig_.engine_state(chunk).location;
    return at.on_disk() ? at.chunk().value * kChunk : 0;
  }
  const EngineStatistics& Counters() { return rig_.engine().statistics(); }

  EngineRig rig_;
};

TEST_F(EngineBadDiskTest, CleanChunkThatCannotBeReadIsFetchedAgain) {
  rig_.Read(2 * kChunk, kChunk);
  rig_.faults().FailReadsOf(PlaceOf(2) + 8192, 512);
  EXPECT_EQ(rig_.Read(2 * kChunk, kChunk), Image(2 * kChunk, kChunk));
  EXPECT_EQ(Counters().healed_chunks, 1U);
  EXPECT_EQ(Counters().io_errors, 0U);
  EXPECT_EQ(rig_.reports().size(), 1U);
  EXPECT_EQ(rig_.source().fetches().size(), 2U);
  // It lies elsewhere now, and stays.
  EXPECT_EQ(rig_.Read(2 * kChunk, kChunk), Image(2 * kChunk, kChunk));
  EXPECT_EQ(rig_.source().fetches().size(), 2U);
}

TEST_F(EngineBadDiskTest, DirtyBlockIsAnErrorWithItsAddressAndNoOtherHarm) {
  rig_.Write(2 * kChunk + 4096, 4096, std::byte{7});
  rig_.Read(2 * kChunk, kChunk);
  const uint64_t place = PlaceOf(2);
  rig_.faults().FailReadsOf(place + 4096, 512);
  std::vector<std::byte> out(4096);
  const Status status = TryRead(2 * kChunk + 4096, out);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kIo);
  EXPECT_EQ(Counters().io_errors, 1U);
  ASSERT_EQ(rig_.reports().size(), 1U);
  EXPECT_NE(rig_.reports()[0].find("byte " + std::to_string(place)),
            std::string::npos)
      << rig_.reports()[0];
  EXPECT_EQ(rig_.Read(2 * kChunk + 8192, 4096), Image(2 * kChunk + 8192, 4096));
  EXPECT_EQ(Counters().healed_chunks, 0U);
  // The disk has changed its mind: the block is what was written.
  rig_.faults().Mend();
  EXPECT_EQ(rig_.Read(2 * kChunk + 4096, 4096),
            std::vector<std::byte>(4096, std::byte{7}));
}

TEST_F(EngineBadDiskTest, CleanBlockBesideDirtyOnesIsMended) {
  rig_.Write(2 * kChunk + 4096, 4096, std::byte{7});
  rig_.Read(2 * kChunk, kChunk);
  const uint64_t place = PlaceOf(2);
  rig_.faults().HealByWriting();
  rig_.faults().FailReadsOf(place + 12288, 512);
  EXPECT_EQ(rig_.Read(2 * kChunk + 8192, 8192), Image(2 * kChunk + 8192, 8192));
  EXPECT_EQ(Counters().healed_chunks, 1U);
  EXPECT_EQ(PlaceOf(2), place);
  const size_t fetches = rig_.source().fetches().size();
  EXPECT_EQ(rig_.Read(2 * kChunk + 8192, 8192), Image(2 * kChunk + 8192, 8192));
  EXPECT_EQ(rig_.source().fetches().size(), fetches);
  EXPECT_EQ(rig_.Read(2 * kChunk + 4096, 4096),
            std::vector<std::byte>(4096, std::byte{7}));
  ASSERT_TRUE(Flush());
  rig_.Restart();
  EXPECT_EQ(rig_.Read(2 * kChunk + 4096, 8192 - 4096),
            std::vector<std::byte>(4096, std::byte{7}));
}

TEST_F(EngineBadDiskTest, PlaceThatStaysBadIsAnsweredFromTheServer) {
  rig_.Write(2 * kChunk + 4096, 4096, std::byte{7});
  rig_.Read(2 * kChunk, kChunk);
  rig_.faults().FailReadsOf(PlaceOf(2) + 12288, 512);
  rig_.faults().FailWritesTo(PlaceOf(2) + 12288, 512);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(rig_.Read(2 * kChunk + 8192, 8192),
              Image(2 * kChunk + 8192, 8192));
  }
  EXPECT_EQ(rig_.Read(2 * kChunk + 4096, 4096),
            std::vector<std::byte>(4096, std::byte{7}));
  EXPECT_EQ(Counters().io_errors, 0U);
}

TEST_F(EngineBadDiskTest, BadCleanBlockDoesNotFailTheDirtyOneBesideIt) {
  rig_.Write(2 * kChunk + 4096, 4096, std::byte{7});
  rig_.Read(2 * kChunk, kChunk);
  rig_.faults().FailReadsOf(PlaceOf(2) + 8192, 512);
  auto wanted = Image(2 * kChunk, kChunk);
  std::fill_n(wanted.begin() + 4096, 4096, std::byte{7});
  EXPECT_EQ(rig_.Read(2 * kChunk, kChunk), wanted);
  EXPECT_EQ(Counters().healed_chunks, 1U);
  EXPECT_EQ(Counters().io_errors, 0U);
}

TEST_F(EngineBadDiskTest, BadDirtyBlockDoesNotDropTheCleanOnesBesideIt) {
  rig_.Write(2 * kChunk + 4096, 4096, std::byte{7});
  rig_.Read(2 * kChunk, kChunk);
  rig_.faults().FailReadsOf(PlaceOf(2) + 4096, 512);
  std::vector<std::byte> out(kChunk);
  EXPECT_FALSE(TryRead(2 * kChunk, out));
  EXPECT_EQ(Counters().healed_chunks, 0U);
  EXPECT_EQ(Counters().io_errors, 1U);
}

TEST_F(EngineBadDiskTest, PinnedChunkGoesHomeWithoutItsUnreadableBlocks) {
  rig_.Read(5 * kChunk, kChunk);
  ASSERT_NE(PlaceOf(5), 5 * kChunk);
  rig_.faults().FailReadsOf(PlaceOf(5) + 8192, 512);
  rig_.Write(5 * kChunk + 4096, 4096, std::byte{7});
  EXPECT_EQ(PlaceOf(5), 5 * kChunk);
  auto wanted = Image(5 * kChunk, kChunk);
  std::fill_n(wanted.begin() + 4096, 4096, std::byte{7});
  EXPECT_EQ(rig_.Read(5 * kChunk, kChunk), wanted);
  EXPECT_EQ(Counters().healed_chunks, 1U);
  EXPECT_EQ(Counters().io_errors, 0U);
}

TEST_F(EngineBadDiskTest, UnreadableChunkInAPinnedHomeMakesRoom) {
  EngineRig rig({{4, 1}, {64, 26}});
  const auto in_home = [&]() -> std::optional<uint64_t> {
    for (uint64_t c = 6; c < EngineRig::kImageChunks; ++c) {
      const Location at = rig.engine_state(c).location;
      if (at == Location::At(DiskChunk{4})) return c;
    }
    return std::nullopt;
  };
  for (uint64_t c = 12; c < EngineRig::kImageChunks && !in_home(); ++c) {
    rig.Read(c * kChunk, kChunk);
  }
  const auto occupant = in_home();
  ASSERT_TRUE(occupant.has_value());
  rig.faults().HealByWriting();
  rig.faults().FailReadsOf(4 * kChunk + 512, 512);
  rig.Write(4 * kChunk, kChunk, std::byte{7});
  EXPECT_EQ(rig.engine_state(4).location, Location::At(DiskChunk{4}));
  EXPECT_EQ(rig.Read(4 * kChunk, kChunk),
            std::vector<std::byte>(kChunk, std::byte{7}));
  EXPECT_EQ(rig.Read(*occupant * kChunk, kChunk),
            Image(*occupant * kChunk, kChunk));
  EXPECT_EQ(rig.engine().statistics().io_errors, 0U);
}

TEST_F(EngineBadDiskTest, BootChunkAtHomeIsTheTruth) {
  EngineRig rig({{0, 8}, {64, 80}});
  rig.Read(0, kChunk);
  ASSERT_EQ(rig.engine_state(0).location, Location::At(DiskChunk{0}));
  rig.faults().FailReadsOf(4096, 512);
  std::vector<std::byte> out(kChunk);
  EXPECT_FALSE(RunInline(rig.engine().Read(0, out)));
  EXPECT_EQ(rig.engine().statistics().io_errors, 1U);
  EXPECT_EQ(rig.engine().statistics().healed_chunks, 0U);
}

TEST_F(EngineBadDiskTest, PlaceThatTakesNoWriteIsNotUsedAgain) {
  // Where the next chunk would go.
  rig_.Read(kChunk, kChunk);
  const uint64_t next = PlaceOf(1) + kChunk;
  rig_.faults().FailWritesTo(next, kChunk);
  EXPECT_EQ(rig_.Read(2 * kChunk, kChunk), Image(2 * kChunk, kChunk));
  EXPECT_EQ(rig_.Read(2 * kChunk, kChunk), Image(2 * kChunk, kChunk));
  EXPECT_EQ(rig_.Read(3 * kChunk, kChunk), Image(3 * kChunk, kChunk));
  EXPECT_EQ(rig_.faults().failure_count(), 1U);
  EXPECT_NE(PlaceOf(2), 0U);
  EXPECT_NE(PlaceOf(2), next);
  EXPECT_NE(PlaceOf(3), next);
}

TEST_F(EngineBadDiskTest, FailedWriteIsToldWithItsAddress) {
  rig_.Write(2 * kChunk, kChunk, std::byte{7});
  rig_.faults().FailWritesTo(PlaceOf(2), 512);
  EXPECT_FALSE(TryWrite(2 * kChunk, 4096, std::byte{8}));
  EXPECT_EQ(Counters().io_errors, 1U);
  ASSERT_EQ(rig_.reports().size(), 1U);
  EXPECT_NE(rig_.reports()[0].find("byte " + std::to_string(PlaceOf(2))),
            std::string::npos);
  rig_.Write(2 * kChunk + 4096, 4096, std::byte{9});
  EXPECT_EQ(rig_.Read(2 * kChunk, 4096),
            std::vector<std::byte>(4096, std::byte{7}));
}

TEST_F(EngineBadDiskTest, JournalThatTakesNoWriteIsWrittenElsewhere) {
  rig_.Write(2 * kChunk, kChunk, std::byte{7});
  ASSERT_TRUE(Flush());
  const DiskChunk bad = rig_.store().superblock().journal_chunk;
  rig_.faults().FailWritesTo(bad.value * kChunk, kChunk);
  rig_.Write(3 * kChunk, kChunk, std::byte{8});
  EXPECT_TRUE(Flush());
  EXPECT_NE(rig_.store().superblock().journal_chunk, bad);
  for (int start = 0; start < 3; ++start) {
    rig_.Restart();
    rig_.Write(4 * kChunk, kChunk, static_cast<std::byte>(start));
    EXPECT_TRUE(Flush());
    EXPECT_TRUE(RunInline(rig_.store().Checkpoint()));
  }
  EXPECT_EQ(rig_.Read(2 * kChunk, kChunk),
            std::vector<std::byte>(kChunk, std::byte{7}));
  EXPECT_EQ(rig_.Read(3 * kChunk, kChunk),
            std::vector<std::byte>(kChunk, std::byte{8}));
}

TEST_F(EngineBadDiskTest, MetadataThatTakesNoWriteEndsChangesButNotReading) {
  rig_.Write(2 * kChunk, kChunk, std::byte{7});
  rig_.Read(6 * kChunk, kChunk);
  ASSERT_TRUE(Flush());
  // Wherever it goes.
  rig_.Write(3 * kChunk, kChunk, std::byte{8});
  rig_.faults().FailWritesTo(0, rig_.device().size_bytes());
  EXPECT_FALSE(Flush());
  rig_.faults().Mend();
  EXPECT_FALSE(Flush()) << "what the disk holds is known only after Open";
  // The first overwrite of what is clean needs a record.
  EXPECT_FALSE(TryWrite(6 * kChunk, 4096, std::byte{9}));
  EXPECT_EQ(rig_.Read(6 * kChunk, kChunk), Image(6 * kChunk, kChunk));
  EXPECT_EQ(rig_.Read(20 * kChunk, kChunk), Image(20 * kChunk, kChunk));
  EXPECT_EQ(rig_.Read(2 * kChunk, kChunk),
            std::vector<std::byte>(kChunk, std::byte{7}));
  rig_.Restart();
  EXPECT_EQ(rig_.Read(2 * kChunk, kChunk),
            std::vector<std::byte>(kChunk, std::byte{7}));
  EXPECT_EQ(rig_.Read(6 * kChunk, kChunk), Image(6 * kChunk, kChunk));
  EXPECT_TRUE(TryWrite(6 * kChunk, 4096, std::byte{9}));
  EXPECT_TRUE(Flush());
}

// One request of a random history fails.
class History {
 public:
  explicit History(uint32_t seed) : random_(seed), model_(rig_.image()) {}
  EngineRig& rig() { return rig_; }

  void Run(int steps) {
    for (int step = 0; step < steps; ++step) {
      SCOPED_TRACE("step " + std::to_string(step));
      Step();
      if (testing::Test::HasFatalFailure()) return;
    }
  }
  // Everything, from a disk that works again.
  void CheckAll() {
    rig_.faults().Mend();
    model_.Compare(0, rig_.Read(0, model_.size()));
    model_.Ended();
    rig_.Restart();
    model_.Compare(0, rig_.Read(0, model_.size()));
  }

 private:
  void Step() {
    const uint64_t offset =
        random_() % (model_.size() / kSectorBytes) * kSectorBytes;
    const uint64_t size = std::min<uint64_t>(
        (random_() % 40 + 1) * kSectorBytes, model_.size() - offset);
    switch (random_() % 4) {
      case 0: {
        const std::byte value{static_cast<uint8_t>(random_())};
        const std::vector<std::byte> data(size, value);
        const Status s = RunInline(rig_.engine().Write(offset, data, false));
        model_.Wrote(offset, data, s.has_value());
        break;
      }
      case 1:
        model_.Flushed(RunInline(rig_.engine().Flush()).has_value());
        break;
      default: {
        std::vector<std::byte> out(size);
        const Status status = RunInline(rig_.engine().Read(offset, out));
        if (status) model_.Compare(offset, out);
      }
    }
  }

  EngineRig rig_;
  std::mt19937 random_;
  UncertainImage model_;
};

TEST(EngineBadDiskHistoryTest, EachReadMayFail) {
  for (uint64_t n = 0; n < 60; ++n) {
    SCOPED_TRACE("read " + std::to_string(n));
    History history(7);
    history.rig().faults().FailRead(n);
    ASSERT_NO_FATAL_FAILURE(history.Run(120));
    ASSERT_NO_FATAL_FAILURE(history.CheckAll());
  }
}

TEST(EngineBadDiskHistoryTest, EachWriteMayFail) {
  for (uint64_t n = 0; n < 80; ++n) {
    SCOPED_TRACE("write " + std::to_string(n));
    History history(8);
    history.rig().faults().FailWrite(n);
    ASSERT_NO_FATAL_FAILURE(history.Run(120));
    ASSERT_NO_FATAL_FAILURE(history.CheckAll());
  }
}

TEST(EngineBadDiskHistoryTest, EachFlushMayFail) {
  for (uint64_t n = 0; n < 40; ++n) {
    SCOPED_TRACE("flush " + std::to_string(n));
    History history(9);
    history.rig().faults().FailFlush(n);
    ASSERT_NO_FATAL_FAILURE(history.Run(120));
    ASSERT_NO_FATAL_FAILURE(history.CheckAll());
  }
}

// --- Check ---

class EngineCheckTest : public EngineBadDiskTest {
 protected:
  nlohmann::json Check(Checker::Scope scope = Checker::Scope::kAll) {
    Checker checker(rig_.executor(), rig_.engine());
    EXPECT_TRUE(checker.Start(scope));
    EXPECT_FALSE(checker.Start(scope)) << "two at once";
    rig_.executor().RunReady();
    nlohmann::json report = checker.Report();
    EXPECT_EQ(report["state"], "done");
    EXPECT_EQ(report["done"], report["total"]);
    return report;
  }
  void Rot(uint64_t chunk, uint64_t at = 20000) {
    rig_.device().bytes()[PlaceOf(chunk) + at] ^= std::byte{4};
  }
};

TEST_F(EngineCheckTest, RottenCleanChunkIsMendedAndCounted) {
  for (const uint64_t chunk : {1, 2, 3}) rig_.Read(chunk * kChunk, kChunk);
  Rot(2);
  EXPECT_NE(rig_.Read(2 * kChunk, kChunk), Image(2 * kChunk, kChunk));
  const auto report = Check();
  EXPECT_EQ(report["good"], 2U);
  EXPECT_EQ(report["mended"], 1U);
  EXPECT_EQ(report["failed"], 0U);
  EXPECT_EQ(Counters().healed_chunks, 1U);
  EXPECT_EQ(rig_.Read(2 * kChunk, kChunk), Image(2 * kChunk, kChunk));
  rig_.Restart();
  EXPECT_EQ(rig_.Read(2 * kChunk, kChunk), Image(2 * kChunk, kChunk));
  EXPECT_EQ(Check()["good"], 3U);
}

TEST_F(EngineCheckTest, UnreadableCleanChunkIsMended) {
  rig_.Read(kChunk, kChunk);
  rig_.faults().FailReadsOf(PlaceOf(1), 512);
  EXPECT_EQ(Check()["mended"], 1U);
  EXPECT_EQ(rig_.Read(kChunk, kChunk), Image(kChunk, kChunk));
}

TEST_F(EngineCheckTest, WrittenChunksAreLeftAlone) {
  rig_.Write(kChunk, 4096, std::byte{3});
  rig_.Write(2 * kChunk, kChunk, std::byte{3});
  rig_.Read(kChunk, kChunk);
  const auto report = Check();
  EXPECT_EQ(report["not_clean"], 2U);
  EXPECT_EQ(rig_.Read(kChunk, 4096),
            std::vector<std::byte>(4096, std::byte{3}));
}

TEST_F(EngineCheckTest, DroppedChunkIsNeverServedWrongWhileTheServerIsAway) {
  rig_.Read(2 * kChunk, kChunk);
  Rot(2);
  rig_.source().Hold();
  Checker checker(rig_.executor(), rig_.engine());
  ASSERT_TRUE(checker.Start(Checker::Scope::kAll));
  rig_.executor().RunReady();
  EXPECT_EQ(checker.Report()["state"], "running");
  std::vector<std::byte> out(kChunk);
  bool answered = false;
  const auto read = [&]() -> Task<void> {
    EXPECT_TRUE((co_await rig_.engine().Read(2 * kChunk, out)).has_value());
    answered = true;
  };
  Spawn(read());
  EXPECT_FALSE(answered);
  rig_.source().Release();
  rig_.executor().RunReady();
  EXPECT_TRUE(answered);
  EXPECT_EQ(out, Image(2 * kChunk, kChunk));
  EXPECT_EQ(checker.Report()["mended"], 1U);
}

TEST_F(EngineCheckTest, CompleteImageSaysSoOnlyWhileItIs) {
  rig_.Read(2 * kChunk, kChunk);
  ASSERT_TRUE(RunInline(rig_.store().UpdateSuperblock(
      [](Superblock& block) { block.phase = Phase::kComplete; })));
  Rot(2);
  rig_.source().Hold();
  Checker checker(rig_.executor(), rig_.engine());
  ASSERT_TRUE(checker.Start(Checker::Scope::kAll));
  rig_.executor().RunReady();
  EXPECT_EQ(rig_.store().superblock().phase, Phase::kStreaming);
  rig_.source().Release();
  rig_.executor().RunReady();
  EXPECT_EQ(rig_.store().superblock().phase, Phase::kComplete);
}

TEST_F(EngineCheckTest, BootChunksMustBeAtHome) {
  EXPECT_EQ(Check(Checker::Scope::kBoot)["not_home"], 1U);
}

// --- The target changes its partition table's id ---

TEST(EngineTableTest, AnchorFollowsTheTable) {
  EngineRig rig({{0, 8}, {12, 1}, {64, 80}});
  ASSERT_TRUE(RunInline(rig.store().WriteAnchor(786432)));
  rig.Read(0, kChunk);
  const Sha256 no_serial{};
  const auto find = [&] {
    const auto found = RunInline(FindMigration(rig.device(), no_serial));
    return found && found->superblock.has_value();
  };
  const auto header = [](uint8_t id) {
    std::vector<std::byte> sector(512);
    std::memcpy(sector.data(), "EFI PART", 8);
    std::memset(sector.data() + 56, id, 16);
    return sector;
  };
  for (const uint8_t id : {1, 2, 3}) {
    ASSERT_TRUE(RunInline(rig.engine().Write(512, header(id), false)));
    EXPECT_TRUE(find()) << static_cast<int>(id);
  }
  // The anchor is changed, and the table is not: the power went in between.
  rig.faults().FailWritesTo(0, 4096);
  EXPECT_FALSE(RunInline(rig.engine().Write(512, header(4), false)));
  EXPECT_TRUE(find());
  rig.faults().Mend();
  ASSERT_TRUE(RunInline(rig.engine().Write(512, header(5), true)));
  EXPECT_TRUE(find());
  rig.Restart();
  EXPECT_TRUE(find());
  // Not through us: nobody can know.
  std::memset(rig.device().bytes().data() + 512 + 56, 9, 16);
  EXPECT_FALSE(find());
}

}  // namespace
}  // namespace bootstream
