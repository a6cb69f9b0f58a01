#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "initramfs/driver/backfill.h"
#include "initramfs/driver/settler.h"
#include "tests/support/engine_rig.h"

namespace bootstream {
namespace {

using std::chrono::seconds;

constexpr uint64_t kChunk = EngineRig::kChunk;
constexpr uint64_t kZeroChunk = 9;  // of the image

class SettleTest : public testing::Test {
 protected:
  ~SettleTest() override { End(); }

  void GiveUpAndComplete() {
    ASSERT_TRUE(RunInline(rig_.engine().GiveUpSource()));
    ASSERT_TRUE(RunInline(rig_.store().WriteAnchor(kAnchorAt)));
    Backfill backfill(rig_.executor(), rig_.engine(), rig_.store(), {});
    backfill.Start();
    rig_.executor().Advance(seconds(1));
    ASSERT_EQ(backfill.state(), Backfill::State::kComplete);
    Spawn(backfill.Stop());
    while (rig_.executor().RunNextTimer()) {
    }
  }
  void Begin(Settler::Options options = {}) {
    settler_ = std::make_unique<Settler>(rig_.executor(), rig_.engine(),
                                         rig_.store(), options);
    settler_->Start();
    rig_.executor().RunReady();
  }
  void Settle() {
    Begin();
    rig_.executor().Advance(seconds(5));
    ASSERT_EQ(settler_->state(), Settler::State::kSettled)
        << settler_->failure();
  }
  void End() {
    if (!settler_) return;
    Spawn(settler_->Stop());
    while (rig_.executor().RunNextTimer()) {
    }
    settler_.reset();
  }
  std::vector<std::byte> All() {
    return rig_.Read(0, EngineRig::kImageChunks * kChunk);
  }
  // What firmware would read.
  std::vector<std::byte> Raw() {
    const auto begin = rig_.device().bytes().begin();
    return {begin, begin + EngineRig::kImageChunks * kChunk};
  }
  void LeaveAndExpect(const std::vector<std::byte>& content) {
    End();
    const Status left = RunInline(rig_.store().Leave());
    ASSERT_TRUE(left) << left.error().message;
    EXPECT_TRUE(Raw() == content);
  }

  static constexpr uint64_t kAnchorAt =
      (EngineRig::kDiskChunks - 4) * EngineRig::kChunk;
  EngineRig rig_;
  std::unique_ptr<Settler> settler_;
};

TEST_F(SettleTest, NothingSettlesWhileTheSourceIsKept) {
  Begin();
  rig_.executor().Advance(seconds(5));
  EXPECT_EQ(settler_->state(), Settler::State::kNone);
  EXPECT_EQ(RunInline(rig_.store().Settle()).error().code,
            ErrorCode::kUnavailable);
  EXPECT_EQ(RunInline(rig_.store().Leave()).error().code,
            ErrorCode::kUnavailable);
}

TEST_F(SettleTest, TheRawDiskBecomesWhatTheTargetReads) {
  rig_.Write(2 * kChunk + 512, 3000, std::byte{0x21});
  rig_.Write(kZeroChunk * kChunk + 8192, 4096, std::byte{0x22});
  GiveUpAndComplete();
  const auto before = All();
  Settle();
  for (uint64_t chunk = 0; chunk < EngineRig::kImageChunks; ++chunk) {
    EXPECT_TRUE(rig_.engine().IsSettled(ImageChunk{chunk})) << chunk;
  }
  EXPECT_TRUE(All() == before);
  EXPECT_EQ(settler_->progress().settled, EngineRig::kImageChunks);
  LeaveAndExpect(before);
}

TEST_F(SettleTest, WhatIsWrittenWhenEverythingHasSettledStaysSo) {
  GiveUpAndComplete();
  Settle();
  rig_.Write((kZeroChunk + 1) * kChunk + 4096, 512, std::byte{0x31});
  rig_.Write(30 * kChunk, kChunk, std::byte{0x32});
  ASSERT_TRUE(
      RunInline(rig_.engine().WriteZeroes(20 * kChunk, kChunk, /*fua=*/false)));
  const auto before = All();
  ASSERT_TRUE(RunInline(rig_.engine().Discard(21 * kChunk, kChunk)));
  EXPECT_TRUE(All() == before) << "a discard made a hole";
  ASSERT_TRUE(RunInline(rig_.engine().Flush()));
  rig_.executor().Advance(seconds(5));
  EXPECT_EQ(settler_->state(), Settler::State::kSettled);
  LeaveAndExpect(before);
}

TEST_F(SettleTest, WhatWasNeverFlushedDoesNotShowAfterAStart) {
  GiveUpAndComplete();
  Settle();
  rig_.Write((kZeroChunk + 1) * kChunk, 4096, std::byte{0x41});
  // Before a lazy commit makes it known.
  Spawn(settler_->Stop());
  rig_.executor().Advance(std::chrono::milliseconds(200));
  settler_.reset();
  rig_.Restart();
  const auto before = All();
  Begin();
  rig_.executor().Advance(seconds(5));
  ASSERT_EQ(settler_->state(), Settler::State::kSettled);
  EXPECT_TRUE(All() == before);
  LeaveAndExpect(before);
}

TEST_F(SettleTest, PausesAndGoesOn) {
  GiveUpAndComplete();
  settler_ = std::make_unique<Settler>(rig_.executor(), rig_.engine(),
                                       rig_.store(), Settler::Options{});
  settler_->Pause();
  settler_->Start();
  rig_.executor().Advance(seconds(5));
  EXPECT_EQ(settler_->state(), Settler::State::kPaused);
  settler_->Resume();
  rig_.executor().Advance(seconds(5));
  EXPECT_EQ(settler_->state(), Settler::State::kSettled);
}

TEST_F(SettleTest, KeepsToItsRate) {
  GiveUpAndComplete();
  Begin({.bytes_per_second = kChunk});
  const uint64_t before = settler_->progress().settled;
  rig_.executor().Advance(seconds(4));
  EXPECT_LE(settler_->progress().settled, before + 8);
  settler_->SetLimit(0);
  rig_.executor().Advance(seconds(10));
  EXPECT_EQ(settler_->state(), Settler::State::kSettled);
}

// A home that takes no write: what is written there lies elsewhere, and the raw
// disk is the image no more.
TEST_F(SettleTest, NothingLeavesWhileSomethingCannotComeHome) {
  GiveUpAndComplete();
  Settle();
  const uint64_t chunk = kZeroChunk + 1;
  rig_.faults().FailWritesTo(chunk * kChunk, kChunk);
  rig_.Write(chunk * kChunk + 4096, 4096, std::byte{0x61});
  ASSERT_TRUE(RunInline(rig_.engine().Flush()));
  EXPECT_EQ(rig_.store().superblock().phase, Phase::kCommitted);
  EXPECT_EQ(RunInline(rig_.store().Leave()).error().code,
            ErrorCode::kUnavailable);
  const auto before = All();
  rig_.executor().Advance(seconds(5));
  EXPECT_EQ(settler_->state(), Settler::State::kRunning);
  EXPECT_FALSE(settler_->failure().empty());
  EXPECT_TRUE(All() == before);
  // After the next start it can again, and everything does.
  rig_.faults().Mend();
  End();
  rig_.Restart();
  Settle();
  LeaveAndExpect(before);
}

TEST_F(SettleTest, AnUnreadablePlaceIsToldAndNothingIsLost) {
  rig_.Write(2 * kChunk, kChunk, std::byte{0x51});
  GiveUpAndComplete();
  const DiskChunk at = rig_.engine_state(2).location.chunk();
  ASSERT_NE(at, HomeOf(ImageChunk{2})) << "it is to move";
  rig_.faults().FailReadsOf(at.value * kChunk, kChunk);
  Begin();
  rig_.executor().Advance(seconds(5));
  EXPECT_EQ(settler_->state(), Settler::State::kRunning);
  EXPECT_FALSE(settler_->failure().empty());
}

}  // namespace
}  // namespace bootstream
