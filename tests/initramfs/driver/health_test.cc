#include "initramfs/driver/health.h"

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <list>
#include <memory>
#include <vector>

#include "tests/support/engine_rig.h"

namespace bootstream {
namespace {

using std::chrono::seconds;

constexpr uint64_t kChunk = EngineRig::kChunk;

// One boot of the target after the other, each with a driver of its own.
class BootHealthTest : public testing::Test {
 protected:
  void Boot(uint8_t id) {
    health_.reset();
    rig_.Restart();
    BootHealth::Options options;
    options.boot_id.fill(std::byte{id});
    health_ = std::make_unique<BootHealth>(rig_.executor(), rig_.store(),
                                           rig_.engine(), options);
    health_->Start();
  }
  // The target reads what is not there yet; the answer may never come.
  void Miss(uint64_t chunk) {
    buffers_.emplace_back(kBlockBytes);
    Spawn(ReadOne(chunk * kChunk, buffers_.back()));
  }
  void Wait(seconds time) { rig_.executor().Advance(time); }
  // As the next boot would find it.
  Superblock OnDisk() {
    const auto places = rig_.store().superblock().superblock_chunks;
    return *RunInline(MapStore::ReadSuperblock(rig_.device(), kChunk, places));
  }
  uint32_t counted() { return OnDisk().boots_without_health; }
  void SetStarts(uint32_t starts) {
    const std::function<void(Superblock&)> change = [&](Superblock& block) {
      block.starts_without_boot = starts;
    };
    ASSERT_TRUE(RunInline(rig_.store().UpdateSuperblock(change)).has_value());
  }

  EngineRig rig_;
  std::unique_ptr<BootHealth> health_;

 private:
  Task<void> ReadOne(uint64_t offset, std::vector<std::byte>& out) {
    (void)co_await rig_.engine().Read(offset, out);
  }
  std::list<std::vector<std::byte>> buffers_;
};

TEST_F(BootHealthTest, BootIsCountedWhenTheServerHasAnswered) {
  Boot(1);
  EXPECT_EQ(counted(), 0u);
  Miss(2);
  Wait(seconds(1));
  EXPECT_EQ(counted(), 1u);
  EXPECT_EQ(health_->state(), BootHealth::State::kCounted);
  Wait(seconds(100));
  Miss(3);
  Wait(seconds(100));
  EXPECT_EQ(counted(), 1u) << "counted twice";
  Boot(2);
  Miss(6);
  Wait(seconds(1));
  EXPECT_EQ(counted(), 2u);
}

TEST_F(BootHealthTest, BootThatNeedsNoServerIsCountedToo) {
  Boot(1);
  Wait(seconds(9));
  EXPECT_EQ(counted(), 0u);
  Wait(seconds(2));
  EXPECT_EQ(counted(), 1u);
}

TEST_F(BootHealthTest, BootThatWaitsFromTheBeginningIsNeverCounted) {
  for (uint8_t boot = 1; boot <= 4; ++boot) {
    Boot(boot);
    rig_.source().Hold();
    Miss(boot);
    // The power may go at any moment of it.
    for (int i = 0; i < 30; ++i) {
      Wait(seconds(1));
      ASSERT_EQ(counted(), 0u) << "boot " << int{boot} << ", second " << i;
    }
    EXPECT_EQ(health_->state(), BootHealth::State::kWaited);
    rig_.source().Release();
    Wait(seconds(30));
    EXPECT_EQ(counted(), 0u) << "it waited once, and does not count";
  }
}

TEST_F(BootHealthTest, ServerThatGoesAwayInTheMiddleTakesTheCountBack) {
  Boot(1);
  Miss(2);
  Wait(seconds(1));
  ASSERT_EQ(counted(), 1u);
  rig_.source().Hold();
  Miss(3);
  Wait(seconds(4));
  EXPECT_EQ(counted(), 1u);
  Wait(seconds(2));
  EXPECT_EQ(counted(), 0u);
  rig_.source().Release();
}

TEST_F(BootHealthTest, PrefetchThatWaitsIsNobodysConcern) {
  Boot(1);
  Miss(2);
  Wait(seconds(1));
  rig_.source().Hold();
  Spawn([](StreamEngine& engine) -> Task<void> {
    (void)co_await engine.Hydrate(ImageChunk{7}, FetchClass::kBackfill);
  }(rig_.engine()));
  Wait(seconds(60));
  EXPECT_EQ(counted(), 1u);
  rig_.source().Release();
}

TEST_F(BootHealthTest, ReportEndsTheCount) {
  Boot(1);
  Miss(2);
  Wait(seconds(1));
  Boot(2);
  Miss(3);
  Wait(seconds(1));
  ASSERT_EQ(counted(), 2u);
  ASSERT_TRUE(RunInline(health_->ReportHealthy()).has_value());
  EXPECT_EQ(counted(), 0u);
  EXPECT_TRUE(OnDisk().healthy_once);
  Wait(seconds(60));
  EXPECT_EQ(counted(), 0u);
  Boot(3);
  Miss(6);
  Wait(seconds(1));
  EXPECT_EQ(counted(), 1u) << "later boots are counted, for people to see";
  EXPECT_TRUE(OnDisk().healthy_once);
}

TEST_F(BootHealthTest, DriverThatIsStartedAgainDoesNotCountItsBootTwice) {
  Boot(1);
  Miss(2);
  Wait(seconds(1));
  Boot(1);
  Miss(3);
  Wait(seconds(60));
  EXPECT_EQ(counted(), 1u);
  ASSERT_TRUE(RunInline(health_->ReportHealthy()).has_value());
  Boot(1);
  Miss(6);
  Wait(seconds(60));
  EXPECT_EQ(counted(), 0u);
}

TEST_F(BootHealthTest, JudgedBootSettlesTheAgentsCount) {
  SetStarts(2);
  Boot(1);
  Wait(seconds(5));
  EXPECT_EQ(OnDisk().starts_without_boot, 2u) << "it may have panicked by now";
  Miss(2);
  Wait(seconds(1));
  EXPECT_EQ(OnDisk().starts_without_boot, 0u);
  SetStarts(2);
  Boot(2);
  rig_.source().Hold();
  Miss(3);
  Wait(seconds(10));
  EXPECT_EQ(OnDisk().starts_without_boot, 0u) << "it waits for the server";
  rig_.source().Release();
}

}  // namespace
}  // namespace bootstream
