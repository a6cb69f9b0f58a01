// Many callers at once over a disk that completes requests in any order, and
// a power cut at any moment.

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/base/coding.h"
#include "blockmap/map/map_store.h"
#include "tests/support/crash_device.h"
#include "tests/support/map_fixture.h"

namespace bootstream {
namespace {

// One image chunk as its caller knows it.
struct Known {
  uint64_t acked = 0;      // version of the last commit that returned OK
  uint64_t attempted = 0;  // version of the newest commit that was begun
  std::map<uint64_t, ChunkState> states;  // by version
};

class OverlapTest : public testing::TestWithParam<uint64_t> {
 protected:
  static constexpr uint64_t kWorkers = 8;
  static constexpr uint64_t kChunksEach = 5;

  OverlapTest() : device_(MapFixture::kDiskBytes), random_(GetParam()) {
    store_ = MapFixture::Create(device_);
    for (uint64_t i = 0; i < kWorkers * kChunksEach; ++i) {
      known_[ImageChunk{i * 2}].states[0] = ChunkState{};
    }
  }

  Task<Status> WriteVersion(DiskChunk at, ImageChunk chunk, uint64_t version) {
    AlignedBuffer sector(kSectorBytes);
    StoreLe<uint64_t>(sector.span().subspan<0, 8>(), chunk.value);
    StoreLe<uint64_t>(sector.span().subspan<8, 8>(), version);
    co_return co_await device_.Write(at.value * MapFixture::kChunk,
                                     sector.span());
  }

  // Give `chunk` a new place and content, or make it absent; then commit.
  Task<bool> ChangeOne(ImageChunk chunk, std::mt19937_64& random) {
    Known& known = known_[chunk];
    const uint64_t version = ++versions_;
    ChunkState state;
    if (random() % 4 != 0) {
      const auto at = store_->Allocate({PlacementWish::For::kImageChunk, chunk},
                                       random() % 2 == 0);
      if (!at) co_return true;
      const Status written = co_await WriteVersion(*at, chunk, version);
      if (!written) co_return false;
      state = {Location::At(*at), 1, 0};
    }
    store_->SetChunk(chunk, state);
    known.states[version] = state;
    known.attempted = version;
    const Status committed = co_await store_->Commit();
    if (!committed) co_return false;
    known.acked = version;
    co_return true;
  }

  Task<void> Work(uint64_t worker, uint64_t seed) {
    std::mt19937_64 random(seed);
    bool ok = true;
    while (ok && !stop_) {
      const uint64_t number = worker * kChunksEach + random() % kChunksEach;
      if (worker == 0 && random() % 6 == 0) {
        const Status done = co_await store_->Checkpoint();
        ok = done.has_value();
      } else if (worker == 1 && random() % 6 == 0) {
        const Status done = co_await store_->UpdateSuperblock(
            [](Superblock& sb) { ++sb.boots_total; });
        ok = done.has_value();
      } else if (worker == 2 && GetParam() % 2 == 0 && random() % 12 == 0) {
        const Status done = co_await store_->GiveUpSource();
        ok = done || done.error().code == ErrorCode::kInvalid;
      } else {
        ok = co_await ChangeOne(ImageChunk{number * 2}, random);
      }
    }
    --running_;
  }

  void RunUntilPowerCut(uint64_t steps) {
    device_.Hold();
    for (uint64_t i = 0; i < kWorkers; ++i) {
      ++running_;
      Spawn(Work(i, random_()));
    }
    for (uint64_t i = 0; i < steps; ++i) {
      ASSERT_TRUE(device_.StepRandom(random_)) << "everybody waits";
    }
    device_.CutPower();
    ASSERT_EQ(running_, 0U) << "somebody waits for ever";
  }

  std::string Check(const DiskImage& image) {
    CrashDevice device(image);
    const auto store = MapFixture::Open(device);
    if (!store) return store.error().message;
    std::string wrong;
    for (const auto& [chunk, known] : known_) {
      const ChunkState found = (*store)->map().Get(chunk);
      wrong += CheckChunk(device, chunk, known, found);
    }
    return wrong;
  }

  static std::string CheckChunk(CrashDevice& device, ImageChunk chunk,
                                const Known& known, const ChunkState& found) {
    const std::string name = "chunk " + std::to_string(chunk.value);
    for (const uint64_t version : {known.acked, known.attempted}) {
      if (!(known.states.at(version) == found)) continue;
      if (!found.location.on_disk()) return "";
      std::array<std::byte, 16> stamp;
      device.image().Read(found.location.chunk().value * MapFixture::kChunk,
                          stamp);
      ByteReader in(stamp);
      const uint64_t stamped_chunk = in.U64();
      const uint64_t stamped_version = in.U64();
      if (stamped_chunk == chunk.value && stamped_version == version) return "";
      return name + " is not where the map says; ";
    }
    return name + " is neither old nor new; ";
  }

  CrashDevice device_;
  std::mt19937_64 random_;
  std::unique_ptr<MapStore> store_;
  std::map<ImageChunk, Known> known_;
  uint64_t versions_ = 0;
  uint64_t running_ = 0;
  bool stop_ = false;
};

TEST_P(OverlapTest, WhatWasAcknowledgedSurvivesAPowerCutAtAnyMoment) {
  RunUntilPowerCut(random_() % 1500);
  if (HasFailure()) return;
  for (int fate = 0; fate < 4; ++fate) {
    EXPECT_EQ(Check(device_.AfterPowerCut(random_)), "")
        << "seed " << GetParam();
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, OverlapTest, testing::Range<uint64_t>(1, 61));

TEST(GiveUpSourceTest, NobodyGetsItsPlacesBeforeThatIsDurable) {
  CrashDevice device(MapFixture::kDiskBytes);
  const auto store = MapFixture::Create(device);
  const DiskChunk foreign{5};
  std::mt19937_64 random(1);
  std::optional<Status> done;
  const auto give_up = [](MapStore& map,
                          std::optional<Status>& result) -> Task<void> {
    Status status = co_await map.GiveUpSource();
    result = std::move(status);
  };
  device.Hold();
  Spawn(give_up(*store, done));
  while (!done) {
    ASSERT_FALSE(store->AllocateAt(foreign));
    ASSERT_TRUE(device.StepRandom(random));
  }
  ASSERT_TRUE(*done);
  EXPECT_TRUE(store->AllocateAt(foreign));
}

}  // namespace
}  // namespace bootstream
