#include "initramfs/driver/prefetch.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/support/engine_rig.h"

namespace bootstream {
namespace {

constexpr uint64_t kChunk = EngineRig::kChunk;
using Call = FakeChunkSource::Call;

std::vector<Call> Calls(std::vector<uint64_t> chunks, FetchClass fetch_class) {
  std::vector<Call> calls;
  for (const uint64_t chunk : chunks) {
    calls.push_back({ImageChunk{chunk}, fetch_class});
  }
  return calls;
}

TEST(PrefetchTest, TheWatchedBootComesInItsOrder) {
  EngineRig rig;
  Prefetch prefetch(rig.engine(), {.parallel_fetches = 1});
  prefetch.Start();
  EXPECT_EQ(rig.source().fetches(), Calls({20, 21, 14}, FetchClass::kPrefetch));
  for (const uint64_t chunk : {20, 21, 14}) {
    EXPECT_FALSE(rig.engine().IsMissing(ImageChunk{chunk})) << chunk;
  }
}

TEST(PrefetchTest, OffIsOff) {
  EngineRig rig;
  Prefetch prefetch(rig.engine(), {.off = true});
  prefetch.Start();
  EXPECT_TRUE(rig.source().fetches().empty());
}

TEST(PrefetchTest, DemandTakesADownloadOver) {
  EngineRig rig;
  rig.source().Hold();
  Prefetch prefetch(rig.engine(), {.parallel_fetches = 2});
  prefetch.Start();
  std::vector<std::byte> out(4096);
  const auto read = [&]() -> Task<void> {
    (void)co_await rig.engine().Read(21 * kChunk, out);
  };
  Spawn(read());
  EXPECT_EQ(rig.source().fetches(), Calls({20, 21}, FetchClass::kPrefetch));
  EXPECT_EQ(rig.source().promotions(), Calls({21}, FetchClass::kDemand));
  rig.source().Release();
}

TEST(PrefetchTest, NoMoreOnceOneFails) {
  EngineRig rig;
  rig.source().FailNext({ErrorCode::kUnavailable, "gone"}, /*always=*/true);
  Prefetch prefetch(rig.engine(), {.parallel_fetches = 1});
  prefetch.Start();
  EXPECT_EQ(rig.source().fetches().size(), 1U);
}

// What a run of reads asks for, with and without a watched boot under way.
TEST(PrefetchTest, NothingIsGuessedUntilItHasCome) {
  EngineRig rig;
  rig.RestartWith({.read_ahead_bytes = 8 * kChunk});
  rig.source().Hold();
  Prefetch prefetch(rig.engine(), {.parallel_fetches = 3});
  prefetch.Start();
  std::vector<std::byte> out(kChunk);
  const auto read = [&](uint64_t chunk) -> Task<void> {
    (void)co_await rig.engine().Read(chunk * kChunk, out);
  };
  for (const uint64_t chunk : {1, 2, 3}) Spawn(read(chunk));
  EXPECT_EQ(rig.source().fetches().size(), 3U + 3U);
  rig.source().Release();
  for (const uint64_t chunk : {22, 23, 24}) Spawn(read(chunk));
  EXPECT_EQ(rig.source().fetches().back().fetch_class, FetchClass::kReadAhead);
}

}  // namespace
}  // namespace bootstream
