#include "blockmap/image/fetch_queue.h"

#include <gtest/gtest.h>

#include "blockmap/image/server_list.h"

namespace bootstream {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
constexpr Executor::Duration kNow = seconds(100);

WantedFrame Wanted(uint32_t pack, uint64_t offset, uint32_t size,
                   FetchClass fetch_class, uint64_t waiter = 0) {
  WantedFrame frame;
  frame.key = FrameKey{pack, offset, size, 65536, {}};
  frame.fetch_class = fetch_class;
  frame.waiters = {waiter};
  return frame;
}

class FetchQueueTest : public testing::Test {
 protected:
  // Offsets of the next batch.
  std::vector<uint64_t> Take(FetchClass lowest = FetchClass::kBackfill) {
    std::vector<uint64_t> offsets;
    if (const auto batch = queue_.Take(kNow, lowest, limits_)) {
      for (const auto& frame : batch->frames) {
        offsets.push_back(frame.key.offset);
      }
    }
    return offsets;
  }
  using Offsets = std::vector<uint64_t>;
  FetchQueue queue_;
  FetchLimits limits_{4 << 20, 16 << 10};
};

TEST_F(FetchQueueTest, BetterClassGoesFirst) {
  queue_.Add(Wanted(0, 0, 10, FetchClass::kBackfill));
  queue_.Add(Wanted(1, 0, 10, FetchClass::kReadAhead));
  queue_.Add(Wanted(2, 5, 10, FetchClass::kDemand));
  EXPECT_EQ(Take(), Offsets{5});
  EXPECT_EQ(Take(FetchClass::kPrefetch), Offsets{});
  EXPECT_EQ(Take(FetchClass::kReadAhead), Offsets{0});
  EXPECT_EQ(queue_.size(), 1U);
}

TEST_F(FetchQueueTest, NeighboursInOnePackBecomeOneRequest) {
  queue_.Add(Wanted(0, 300, 100, FetchClass::kDemand));
  queue_.Add(Wanted(0, 100, 100, FetchClass::kDemand));
  queue_.Add(Wanted(0, 200, 100, FetchClass::kDemand));
  queue_.Add(Wanted(0, 400 + (16 << 10), 100, FetchClass::kDemand));
  queue_.Add(Wanted(0, 501 + (32 << 10), 100, FetchClass::kDemand));
  queue_.Add(Wanted(1, 400, 100, FetchClass::kDemand));
  EXPECT_EQ(Take(), (Offsets{100, 200, 300, 400 + (16 << 10)}));
  EXPECT_EQ(Take(), Offsets{501 + (32 << 10)});
  EXPECT_EQ(Take(), Offsets{400});
  EXPECT_TRUE(queue_.empty());
}

TEST_F(FetchQueueTest, RequestsHaveALargestSize) {
  limits_.batch_bytes = 1000;
  for (uint64_t i = 0; i < 10; ++i) {
    queue_.Add(Wanted(0, i * 300, 300, FetchClass::kBackfill));
  }
  EXPECT_EQ(Take(), (Offsets{0, 300, 600}));
  EXPECT_EQ(Take(), (Offsets{900, 1200, 1500}));
}

TEST_F(FetchQueueTest, DemandWaitsForNothingWorseInFrontOfIt) {
  queue_.Add(Wanted(0, 0, 100, FetchClass::kPrefetch));
  queue_.Add(Wanted(0, 100, 100, FetchClass::kDemand));
  queue_.Add(Wanted(0, 200, 100, FetchClass::kPrefetch));
  queue_.Add(Wanted(0, 300, 100, FetchClass::kBackfill));
  EXPECT_EQ(Take(), (Offsets{100, 200}));
}

TEST_F(FetchQueueTest, TheSameFrameIsFetchedOnce) {
  queue_.Add(Wanted(0, 0, 100, FetchClass::kBackfill, 1));
  queue_.Add(Wanted(0, 0, 100, FetchClass::kDemand, 2));
  const auto batch = queue_.Take(kNow, FetchClass::kDemand, limits_);
  ASSERT_TRUE(batch);
  ASSERT_EQ(batch->frames.size(), 1U);
  EXPECT_EQ(batch->frames[0].waiters, (std::vector<uint64_t>{1, 2}));
  EXPECT_TRUE(queue_.empty());
}

TEST_F(FetchQueueTest, OverlappingFramesAreApart) {
  queue_.Add(Wanted(0, 0, 100, FetchClass::kDemand));
  queue_.Add(Wanted(0, 50, 100, FetchClass::kDemand));
  EXPECT_EQ(Take(), Offsets{0});
  EXPECT_EQ(Take(), Offsets{50});
}

TEST_F(FetchQueueTest, PromotedFrameGoesFirst) {
  queue_.Add(Wanted(0, 0, 100, FetchClass::kPrefetch));
  queue_.Add(Wanted(1, 7, 100, FetchClass::kBackfill));
  EXPECT_TRUE(queue_.Promote(Wanted(1, 7, 100, {}).key, FetchClass::kDemand));
  EXPECT_FALSE(queue_.Promote(Wanted(1, 8, 100, {}).key, FetchClass::kDemand));
  EXPECT_EQ(Take(), Offsets{7});
}

TEST_F(FetchQueueTest, FailedFrameWaitsAndGoesAlone) {
  WantedFrame failed = Wanted(0, 100, 100, FetchClass::kDemand);
  failed.failures = 1;
  failed.not_before = kNow + seconds(1);
  queue_.Add(failed);
  queue_.Add(Wanted(0, 0, 100, FetchClass::kDemand));
  queue_.Add(Wanted(0, 200, 100, FetchClass::kDemand));
  EXPECT_EQ(Take(), (Offsets{0, 200}));
  EXPECT_EQ(Take(), Offsets{});
  EXPECT_EQ(queue_.NextDue(kNow), kNow + seconds(1));
  const auto batch =
      queue_.Take(kNow + seconds(1), FetchClass::kDemand, limits_);
  ASSERT_TRUE(batch);
  EXPECT_EQ(batch->frames[0].failures, 1U);
  EXPECT_EQ(queue_.NextDue(kNow), std::nullopt);
}

TEST(BackOffTest, GrowsToALimit) {
  std::mt19937_64 random(1);
  for (uint32_t n = 1; n < 100; ++n) {
    const auto full =
        std::min<int64_t>(15000, n < 20 ? 200LL << (n - 1) : 15000);
    const auto wait = BackOff(n, random);
    EXPECT_GE(wait, milliseconds(full / 2)) << n;
    EXPECT_LE(wait, milliseconds(full)) << n;
  }
}

TEST(ServerListTest, FailedServerRestsAndTheNextOneIsAsked) {
  std::mt19937_64 random(1);
  ServerList servers({"http://a", "http://b/"}, random);
  EXPECT_EQ(servers.url(0), "http://a/");
  EXPECT_EQ(servers.Pick(kNow, SIZE_MAX), 0U);
  servers.Failed(0, kNow);
  EXPECT_EQ(servers.Pick(kNow, SIZE_MAX), 1U);
  servers.Failed(1, kNow);
  EXPECT_EQ(servers.Pick(kNow, SIZE_MAX), std::nullopt);
  EXPECT_TRUE(servers.Pick(servers.NextReady(), SIZE_MAX));
  servers.Succeeded(0);
  EXPECT_EQ(servers.Pick(kNow, SIZE_MAX), 0U);
}

TEST(ServerListTest, AvoidedServerIsTheLastResort) {
  std::mt19937_64 random(1);
  ServerList servers({"a", "b"}, random);
  EXPECT_EQ(servers.Pick(kNow, 0), 1U);
  servers.Failed(1, kNow);
  EXPECT_EQ(servers.Pick(kNow, 0), 0U);
}

}  // namespace
}  // namespace bootstream
