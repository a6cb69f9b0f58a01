#include "initramfs/driver/backfill.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>

#include "tests/support/engine_rig.h"

namespace bootstream {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kChunk = EngineRig::kChunk;

// Whoever sleeps wakes up, and ends.
void End(EngineRig& rig, Backfill& backfill) {
  Spawn(backfill.Stop());
  while (rig.executor().RunNextTimer()) {
  }
}

class BackfillTest : public testing::Test {
 protected:
  ~BackfillTest() override {
    if (backfill_) End(rig_, *backfill_);
  }
  void Begin(Backfill::Options options) {
    backfill_ = std::make_unique<Backfill>(rig_.executor(), rig_.engine(),
                                           rig_.store(), options);
    backfill_->Start();
    rig_.executor().RunReady();
  }
  size_t fetches() const { return rig_.source().fetches().size(); }
  size_t FetchedIn(milliseconds time) {
    const size_t before = fetches();
    rig_.executor().Advance(time);
    return fetches() - before;
  }

  mutable EngineRig rig_;
  std::unique_ptr<Backfill> backfill_;
};

TEST_F(BackfillTest, BringsEverythingAndSaysSo) {
  Begin({});
  rig_.executor().Advance(seconds(1));
  EXPECT_EQ(backfill_->state(), Backfill::State::kComplete);
  EXPECT_EQ(rig_.store().superblock().phase, Phase::kComplete);
  for (uint64_t chunk = 0; chunk < EngineRig::kImageChunks; ++chunk) {
    EXPECT_FALSE(rig_.engine().IsMissing(ImageChunk{chunk})) << chunk;
  }
}

TEST_F(BackfillTest, BeginsLaterByItsJitter) {
  Begin({.start_jitter = seconds(30)});
  EXPECT_EQ(backfill_->state(), Backfill::State::kRunning);
  EXPECT_EQ(FetchedIn(milliseconds(29'999)), 0U);
  EXPECT_GT(FetchedIn(milliseconds(1)), 0U);
}

TEST_F(BackfillTest, DemandIsNeverLate) {
  Begin({.start_jitter = seconds(30)});
  rig_.Read(3 * EngineRig::kChunk, 4096);
  EXPECT_EQ(fetches(), 1U);
}

TEST_F(BackfillTest, ResumesByItselfWithItsJitter) {
  Begin({.start_paused = true,
         .resume_after = seconds(600),
         .start_jitter = seconds(30)});
  EXPECT_EQ(FetchedIn(milliseconds(629'999)), 0U);
  EXPECT_GT(FetchedIn(milliseconds(1)), 0U);
}

TEST_F(BackfillTest, BeginsAtOnceWhenToldTo) {
  Begin({.start_paused = true, .start_jitter = seconds(30)});
  backfill_->Resume();
  EXPECT_GT(FetchedIn(milliseconds(1)), 0U);
}

TEST_F(BackfillTest, KeepsToItsLimit) {
  Begin({.start_paused = true, .parallel_fetches = 4});
  const ChunkEntry* entry = rig_.engine().manifest().Find(ImageChunk{0});
  ASSERT_NE(entry, nullptr);
  backfill_->SetLimit(4 * uint64_t{entry->packed_bytes});
  backfill_->Resume();
  const size_t in_a_second = FetchedIn(milliseconds(1000));
  EXPECT_GE(in_a_second, 4U);
  EXPECT_LE(in_a_second, 6U);
  EXPECT_LE(FetchedIn(milliseconds(1000)), 5U);
  backfill_->SetLimit(0);
  EXPECT_GT(FetchedIn(milliseconds(2000)), 12U);
}

TEST_F(BackfillTest, PausesAndGoesOn) {
  Begin({.start_paused = true});
  rig_.source().Hold();
  EXPECT_EQ(FetchedIn(milliseconds(1000)), 0U);
  backfill_->Resume();
  EXPECT_GT(FetchedIn(milliseconds(1)), 0U);
  rig_.source().Release();
}

TEST(FullRegionTest, BackfillGoesOnWhenTheSourceIsGivenUp) {
  EngineRig rig({{64, 20}});
  Backfill backfill(rig.executor(), rig.engine(), rig.store(), {});
  backfill.Start();
  rig.executor().Advance(seconds(10));
  ASSERT_EQ(backfill.state(), Backfill::State::kRegionFull);
  backfill.GoOnWithRoom();
  rig.executor().Advance(seconds(10));
  EXPECT_EQ(backfill.state(), Backfill::State::kRegionFull);

  ASSERT_TRUE(RunInline(rig.engine().GiveUpSource()));
  backfill.GoOnWithRoom();
  rig.executor().Advance(seconds(10));
  EXPECT_EQ(backfill.state(), Backfill::State::kComplete);
  EXPECT_EQ(rig.store().superblock().phase, Phase::kCommitted);
  End(rig, backfill);
}

class QuietBackfillTest : public testing::Test {
 protected:
  QuietBackfillTest() {
    Backfill::Options options;
    options.start_paused = true;
    options.resume_after = seconds(600);
    backfill_ = std::make_unique<Backfill>(rig_.executor(), rig_.engine(),
                                           rig_.store(), options);
    backfill_->Start();
  }
  ~QuietBackfillTest() override { End(rig_, *backfill_); }
  // A boot that reads something new every ten seconds.
  void Boot(int steps) {
    for (int i = 0; i < steps; ++i, ++next_) {
      rig_.Read(next_ * kChunk, 4096);
      rig_.executor().Advance(seconds(10));
    }
  }
  bool paused() const { return backfill_->state() == Backfill::State::kPaused; }

  EngineRig rig_;
  std::unique_ptr<Backfill> backfill_;
  uint64_t next_ = 6;
};

TEST_F(QuietBackfillTest, ResumesWhenItIsQuiet) {
  Boot(3);
  backfill_->ResumeWhenQuiet();
  Boot(5);
  EXPECT_TRUE(paused());
  rig_.executor().Advance(seconds(19));
  EXPECT_TRUE(paused());
  rig_.executor().Advance(seconds(2));
  EXPECT_FALSE(paused());
}

TEST_F(QuietBackfillTest, WhatHasBeenReadBeforeIsQuiet) {
  Boot(1);
  backfill_->ResumeWhenQuiet();
  for (int i = 0; i < 4; ++i) {
    rig_.Read(6 * kChunk, 4096);
    rig_.executor().Advance(seconds(10));
  }
  EXPECT_FALSE(paused());
}

TEST_F(QuietBackfillTest, PauseEndsTheWaiting) {
  Boot(1);
  backfill_->ResumeWhenQuiet();
  backfill_->Pause();
  rig_.executor().Advance(seconds(100));
  EXPECT_TRUE(paused());
  backfill_->ResumeWhenQuiet();
  EXPECT_FALSE(paused());
}

TEST_F(QuietBackfillTest, ResumesByItselfAfterAWhile) {
  rig_.executor().Advance(seconds(590));
  Boot(3);
  EXPECT_TRUE(paused());
  rig_.executor().Advance(seconds(21));
  EXPECT_FALSE(paused());
}

}  // namespace
}  // namespace bootstream
