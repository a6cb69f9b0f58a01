// A region that is too small: who waits, what frees him, and what a guaranteed
// plan promises.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <random>

#include "blockmap/image/image_facts.h"
#include "blockmap/map/space_account.h"
#include "initramfs/driver/space_report.h"
#include "tests/support/engine_rig.h"

namespace bootstream {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kChunk = EngineRig::kChunk;
constexpr uint64_t kImageChunks = EngineRig::kImageChunks;
const std::vector<DiskExtent> kTight{{64, 30}};

std::vector<std::byte> Part(std::span<const std::byte> all, uint64_t offset,
                            uint64_t size) {
  const auto part = all.subspan(offset, size);
  return {part.begin(), part.end()};
}

// A write that may have to wait.
struct Pending {
  std::vector<std::byte> data;
  std::optional<Status> status;
};

class SpaceTest : public testing::Test {
 protected:
  explicit SpaceTest(std::vector<DiskExtent> region = kTight)
      : rig_(std::move(region)), model_(rig_.image()) {}
  ~SpaceTest() override {
    rig_.engine().RefuseWithoutRoom();
    rig_.executor().Advance(seconds(2));
  }

  std::shared_ptr<Pending> Start(uint64_t offset, uint64_t size, int value) {
    auto pending = std::make_shared<Pending>();
    pending->data.assign(size, static_cast<std::byte>(value));
    Spawn(Run(offset, pending));
    rig_.executor().RunReady();
    return pending;
  }
  Task<void> Run(uint64_t offset, std::shared_ptr<Pending> pending) {
    pending->status =
        co_await rig_.engine().Write(offset, pending->data, false);
    if (!*pending->status) co_return;
    std::memcpy(model_.data() + offset, pending->data.data(),
                pending->data.size());
  }
  // Write a block of each chunk until one of them waits.
  std::shared_ptr<Pending> Fill() {
    for (uint64_t chunk = 0; chunk < kImageChunks; ++chunk) {
      if (rig_.engine().manifest().IsPinned(ImageChunk{chunk})) continue;
      if (auto write = Start(chunk * kChunk, 4096, 7); !write->status) {
        full_at_ = chunk;
        return write;
      }
    }
    ADD_FAILURE() << "the region was never full";
    return nullptr;
  }
  SpaceFacts Facts(bool attached = false) {
    return GatherSpaceFacts(rig_.engine(), rig_.executor().Now(), attached);
  }
  std::vector<std::byte> ReadAll() {
    return rig_.Read(0, kImageChunks * kChunk);
  }
  bool Flush() { return RunInline(rig_.engine().Flush()).has_value(); }

  EngineRig rig_;
  std::vector<std::byte> model_;
  uint64_t full_at_ = 0;
};

TEST_F(SpaceTest, AWriteThatFindsNoRoomWaitsAndHoldsNobodyUp) {
  const auto write = Fill();
  ASSERT_NE(write, nullptr);
  rig_.executor().Advance(seconds(100));
  EXPECT_FALSE(write->status);
  EXPECT_EQ(rig_.engine().room().waiting(), 1U);
  EXPECT_EQ(ReadAll(), model_);  // that chunk's reader, too
  EXPECT_TRUE(Flush());
  const auto there = Start(0, 8192, 9);  // it has a place
  EXPECT_TRUE(there->status && there->status->has_value());
  EXPECT_FALSE(write->status);
  EXPECT_TRUE(Facts().stuck);
  EXPECT_EQ(SpaceLevelOf(Facts()), SpaceLevel::kFull);
}

TEST_F(SpaceTest, ADiscardFreesAWriteThatWaits) {
  const auto write = Fill();
  ASSERT_NE(write, nullptr);
  std::memset(model_.data() + kChunk, 0, kChunk);
  ASSERT_TRUE(RunInline(rig_.engine().Discard(kChunk, kChunk)));
  rig_.executor().Advance(seconds(1));
  ASSERT_TRUE(write->status);
  EXPECT_TRUE(write->status->has_value());
  EXPECT_EQ(rig_.engine().room().waiting(), 0U);
  ASSERT_TRUE(Flush());
  EXPECT_EQ(ReadAll(), model_);
  rig_.Restart();
  EXPECT_EQ(ReadAll(), model_);
}

TEST_F(SpaceTest, CommitFreesAllWritesThatWait) {
  std::vector<std::shared_ptr<Pending>> writes{Fill()};
  ASSERT_NE(writes[0], nullptr);
  for (uint64_t chunk = full_at_ + 1; chunk < kImageChunks; ++chunk) {
    writes.push_back(Start(chunk * kChunk + 100, 5000, 8));
  }
  writes.push_back(Start(4 * kChunk, 4096, 9));  // pinned
  EXPECT_EQ(rig_.engine().room().waiting(), writes.size());
  ASSERT_TRUE(RunInline(rig_.engine().GiveUpSource()));
  rig_.executor().Advance(milliseconds(1));
  for (const auto& write : writes) {
    ASSERT_TRUE(write->status);
    EXPECT_TRUE(write->status->has_value());
  }
  ASSERT_TRUE(Flush());
  rig_.Restart();
  EXPECT_EQ(ReadAll(), model_);
}

TEST_F(SpaceTest, ACleanChunkThatComesLaterGivesWay) {
  const auto write = Fill();
  ASSERT_NE(write, nullptr);
  // The place of one that was written becomes that of a clean one.
  ASSERT_TRUE(RunInline(rig_.engine().Discard(kChunk, kChunk)));
  std::memset(model_.data() + kChunk, 0, kChunk);
  rig_.executor().Advance(seconds(1));
  ASSERT_TRUE(write->status);
  const auto next = Start(31 * kChunk, 4096, 3);
  EXPECT_FALSE(next->status);
  EXPECT_EQ(Facts().clean, 0U);
}

TEST_F(SpaceTest, APinnedWriteWaitsForRoomToMoveTheSourcesChunk) {
  const auto write = Fill();
  ASSERT_NE(write, nullptr);
  const auto pinned = Start(4 * kChunk, 4096, 9);
  EXPECT_FALSE(pinned->status);
  EXPECT_EQ(rig_.SourceChunk(4), Part(rig_.old_disk(), 4 * kChunk, kChunk));
  std::memset(model_.data() + kChunk, 0, 2 * kChunk);
  ASSERT_TRUE(RunInline(rig_.engine().Discard(kChunk, 2 * kChunk)));
  rig_.executor().Advance(seconds(2));
  ASSERT_TRUE(pinned->status && write->status);
  EXPECT_TRUE(pinned->status->has_value());
  EXPECT_EQ(rig_.engine_state(4).location, Location::At(DiskChunk{4}));
  EXPECT_EQ(rig_.SourceChunk(4), Part(rig_.old_disk(), 4 * kChunk, kChunk));
  EXPECT_EQ(ReadAll(), model_);
}

TEST_F(SpaceTest, AFailedMapEndsTheWait) {
  const auto write = Fill();
  ASSERT_NE(write, nullptr);
  rig_.faults().FailFlush(0);
  (void)Start(0, 4096, 1);
  (void)Flush();
  rig_.executor().Advance(seconds(5));
  ASSERT_TRUE(write->status);
  EXPECT_FALSE(write->status->has_value());
}

TEST_F(SpaceTest, TheEndOfTheDriverEndsTheWait) {
  const auto write = Fill();
  ASSERT_NE(write, nullptr);
  rig_.engine().RefuseWithoutRoom();
  rig_.executor().RunReady();
  ASSERT_TRUE(write->status);
  ASSERT_FALSE(write->status->has_value());
  EXPECT_EQ(write->status->error().code, ErrorCode::kNoSpace);
  EXPECT_EQ(ReadAll(), model_);
}

// The place of a chunk that gave way is not free before that is durable, and a
// write that waits leaves nothing behind.
TEST_F(SpaceTest, ADeathWhileAWriteWaitsLosesNothing) {
  const auto write = Fill();
  ASSERT_NE(write, nullptr);
  ASSERT_TRUE(Flush());
  rig_.engine().RefuseWithoutRoom();
  rig_.executor().RunReady();
  rig_.Restart();
  EXPECT_EQ(ReadAll(), model_);
  rig_.executor().Advance(seconds(2));
}

// The whole image is written to at random, over a region as the plan sizes a
// guaranteed one: image, metadata and spare chunks, and not one more.
class GuaranteedRegion : public testing::TestWithParam<uint32_t> {
 protected:
  static uint64_t ChunksFor(uint64_t manifest_bytes) {
    return kImageChunks + 2 +
           MapStore::MetadataChunks(Grid{kChunk, kImageChunks * kChunk},
                                    manifest_bytes, 2, 2);
  }
};

TEST_P(GuaranteedRegion, NoWriteEverWaits) {
  std::mt19937 random(GetParam());
  const auto below = [&](uint64_t bound) { return random() % bound; };
  EngineRig probe;
  const uint64_t chunks = ChunksFor(probe.store().superblock().manifest_bytes);
  const uint64_t low = below(16);  // some of it below: homes of the image
  EngineRig rig(std::vector<DiskExtent>{{6, low + 1}, {64, chunks - low - 1}});
  std::vector<std::byte> model = rig.image();
  StreamEngine& engine = rig.engine();
  uint64_t under_way = 0;
  const auto expect_ok = [&](Task<Status> task) -> Task<void> {
    ++under_way;
    const Status status = co_await task;
    EXPECT_TRUE(status.has_value()) << status.error().message;
    --under_way;
  };
  std::vector<std::vector<std::byte>> kept;
  for (int step = 0; step < 1500; ++step) {
    const uint64_t chunk = below(kImageChunks);
    const uint64_t at = chunk * kChunk + below(15) * 4096 + below(2) * 100;
    const uint64_t kind = below(16);
    if (kind < 9) {
      kept.emplace_back(1 + below(9000), static_cast<std::byte>(step));
      const auto& data = kept.back();
      const uint64_t size = std::min<uint64_t>(data.size(), model.size() - at);
      std::memcpy(model.data() + at, data.data(), size);
      Spawn(expect_ok(
          engine.Write(at, std::span(data).first(size), below(8) == 0)));
    } else if (kind == 9 || kind == 10) {
      if (!engine.goes_home(ImageChunk{chunk})) {
        std::memset(model.data() + chunk * kChunk, 0, kChunk);
      }
      Spawn(expect_ok(engine.Discard(chunk * kChunk, kChunk)));
    } else if (kind < 14) {
      EXPECT_EQ(rig.Read(chunk * kChunk, kChunk),
                Part(model, chunk * kChunk, kChunk));
    } else if (kind == 14) {
      (void)RunInline(engine.Hydrate(ImageChunk{chunk}, FetchClass::kBackfill));
    } else {
      rig.executor().Advance(milliseconds(below(700)));
    }
    rig.executor().RunReady();
    ASSERT_EQ(under_way, 0U);
  }
  EXPECT_EQ(engine.room().waited(), 0U);
  ASSERT_TRUE(RunInline(engine.Flush()));
  const SpaceFacts facts =
      GatherSpaceFacts(engine, rig.executor().Now(), false);
  EXPECT_GE(facts.free, facts.absent);
  EXPECT_EQ(rig.Read(0, model.size()), model);
  // The plan's account against what came of it.
  const auto predicted =
      PredictSpace(rig.store().superblock(), rig.store().region(),
                   KeptChunkCount(engine.manifest()));
  EXPECT_LE(rig.store().map().relocations().size(), predicted.relocations);
  EXPECT_EQ(predicted.room_for_image, kImageChunks);
}

INSTANTIATE_TEST_SUITE_P(Seeds, GuaranteedRegion, testing::Range(1U, 41U));

}  // namespace
}  // namespace bootstream
