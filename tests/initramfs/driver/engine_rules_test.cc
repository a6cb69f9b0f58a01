#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "initramfs/driver/engine.h"
#include "tests/support/engine_rig.h"

namespace bootstream {
namespace {

constexpr uint64_t kChunk = EngineRig::kChunk;
constexpr ImageChunk kBoot{0};

// The home of the boot set's chunk is ours, so that it is stored there.
std::vector<DiskExtent> RegionWithBootHome() {
  return {{0, 1}, {16, 8}, {64, 80}};
}

void HydrateBootChunk(EngineRig& rig) {
  rig.Read(0, kChunk);
  ASSERT_TRUE(RunInline(rig.engine().Flush()).has_value());
  ASSERT_EQ(rig.store().map().Get(kBoot).location, Location::At(DiskChunk{0}));
}

TEST(EngineRulesTest, WhatFirmwareWroteToTheBootSetIsTheTruth) {
  EngineRig rig(RegionWithBootHome());
  HydrateBootChunk(rig);
  std::memset(rig.device().bytes().data() + 5000, 0x77, 100);
  ASSERT_TRUE(RunInline(rig.engine().AuditBootChunk(kBoot)).has_value());
  const ChunkState state = rig.store().map().Get(kBoot);
  EXPECT_EQ(state.valid, rig.engine().manifest().grid().full_mask(0));
  EXPECT_EQ(state.dirty, state.valid);
  ASSERT_TRUE(RunInline(rig.engine().Flush()).has_value());
  rig.Restart();
  EXPECT_EQ(rig.Read(5000, 100), std::vector<std::byte>(100, std::byte{0x77}));
  EXPECT_TRUE(rig.source().fetches().empty());
}

TEST(EngineRulesTest, BootChunkThatNobodyWroteToStaysClean) {
  EngineRig rig(RegionWithBootHome());
  HydrateBootChunk(rig);
  ASSERT_TRUE(RunInline(rig.engine().AuditBootChunk(kBoot)).has_value());
  EXPECT_EQ(rig.store().map().Get(kBoot).dirty, 0U);
}

TEST(EngineRulesTest, ReadOfWhatBackfillHasAskedForIsHurried) {
  EngineRig rig;
  rig.source().Hold();
  std::vector<std::byte> out(4096);
  int answered = 0;
  const auto backfill = [&]() -> Task<void> {
    (void)co_await rig.engine().Hydrate(ImageChunk{3}, FetchClass::kBackfill);
    ++answered;
  };
  const auto read = [&]() -> Task<void> {
    const Status status = co_await rig.engine().Read(3 * kChunk, out);
    EXPECT_TRUE(status.has_value());
    ++answered;
  };
  Spawn(backfill());
  EXPECT_TRUE(rig.source().promotions().empty());
  Spawn(read());
  const std::vector<FakeChunkSource::Call> expected{
      {ImageChunk{3}, FetchClass::kDemand}};
  EXPECT_EQ(rig.source().promotions(), expected);
  rig.source().Release();
  EXPECT_EQ(answered, 2);
  EXPECT_EQ(rig.source().fetches().size(), 1U);
}

// Backfill may fill the region, but a demand miss is always stored.
TEST(EngineRulesTest, SpareChunksAreForDemandMisses) {
  EngineRig rig({{64, 30}});
  for (uint64_t chunk = 12; chunk < EngineRig::kImageChunks; ++chunk) {
    (void)RunInline(
        rig.engine().Hydrate(ImageChunk{chunk}, FetchClass::kBackfill));
  }
  ASSERT_EQ(rig.store().region().available_count(), 0U);
  EXPECT_GT(rig.store().region().available_count(true), 0U);
  rig.Read(0, 4096);
  EXPECT_FALSE(rig.engine().IsMissing(ImageChunk{0}));
  EXPECT_EQ(rig.engine().statistics().evicted_chunks, 0U);
}

TEST(EngineRulesTest, BootSetAndPinnedChunksAreNeverEvicted) {
  EngineRig rig({{64, 30}});
  rig.Read(0, kChunk);
  rig.Read(4 * kChunk, 2 * kChunk);
  for (uint64_t chunk = 12; chunk < EngineRig::kImageChunks; ++chunk) {
    rig.Read(chunk * kChunk, kChunk);
  }
  EXPECT_GT(rig.engine().statistics().evicted_chunks, 0U);
  for (const uint64_t chunk : {0, 4, 5}) {
    EXPECT_FALSE(rig.engine().IsMissing(ImageChunk{chunk})) << chunk;
  }
}

// All that the image has is there, and what is zero in it has no place.
std::unique_ptr<EngineRig> CompleteAndFull() {
  for (uint64_t size = 24; size < 60; ++size) {
    auto rig =
        std::make_unique<EngineRig>(std::vector<DiskExtent>{{64, size}});
    rig->Read(0, EngineRig::kImageChunks * kChunk);
    if (rig->engine().statistics().evicted_chunks == 0) return rig;
  }
  return nullptr;
}

// Or the next start would do without a network, and wait for it for ever.
TEST(EngineRulesTest, CompleteImageThatLosesAChunkIsNotCompleteAnyMore) {
  const auto rig = CompleteAndFull();
  ASSERT_NE(rig, nullptr);
  const auto complete = [](Superblock& block) {
    block.phase = Phase::kComplete;
  };
  ASSERT_TRUE(RunInline(rig->store().UpdateSuperblock(complete)));
  for (const uint64_t zero : {8, 9, 10, 11}) {
    rig->Write(zero * kChunk, 4096, std::byte{1});
  }
  ASSERT_GT(rig->engine().statistics().evicted_chunks, 0U);
  rig->Restart();
  EXPECT_EQ(rig->store().superblock().phase, Phase::kStreaming);
}

}  // namespace
}  // namespace bootstream
