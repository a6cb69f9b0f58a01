#include "blockmap/image/fetch_window.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace bootstream {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using Duration = FetchWindow::Duration;

// A link that is asked for a whole window each round trip: what is more than it
// carries waits in its queue.
class FetchWindowTest : public testing::Test {
 protected:
  static double Trip(Duration round_trip) {
    return std::chrono::duration<double>(round_trip).count();
  }
  // What is asked for at once leads to this queue.
  Duration QueueAt(uint64_t bytes) const {
    const double seconds =
        static_cast<double>(bytes) / rate_ - Trip(round_trip_);
    return std::chrono::duration_cast<Duration>(
        std::chrono::duration<double>(std::max(seconds, 0.0)));
  }
  void Turn(bool full = true) {
    const uint64_t bytes = window_.bytes();
    const Duration wait = round_trip_ + QueueAt(bytes);
    for (int part = 0; part < 8; ++part) {
      now_ += wait / 8;
      window_.OnFirstByte(now_, wait);
      window_.OnReceived(now_, bytes / 8, full);
    }
  }
  void Turns(int count, bool full = true) {
    for (int i = 0; i < count; ++i) Turn(full);
  }
  // One reply, before there is any queue.
  void Meet() { window_.OnFirstByte(now_, round_trip_); }

  double rate_ = 12.5e6;
  Duration round_trip_ = milliseconds(20);
  Duration now_ = seconds(100);
  FetchWindow window_{FetchWindow::Options{.bytes_start = 256 << 10}};
};

TEST_F(FetchWindowTest, FillsALongLinkAndNotItsQueue) {
  round_trip_ = milliseconds(200);
  Meet();
  Turns(12);
  EXPECT_GE(static_cast<double>(window_.bytes()), rate_ * Trip(round_trip_));
  EXPECT_LE(QueueAt(window_.bytes()), 4 * milliseconds(26));
  Turns(200);
  EXPECT_GE(static_cast<double>(window_.bytes()), rate_ * Trip(round_trip_));
  EXPECT_LE(QueueAt(window_.bytes()), milliseconds(26));
}

TEST_F(FetchWindowTest, ShrinksWhenTheLinkGetsSlower) {
  Meet();
  Turns(100);
  rate_ /= 4;
  Turns(100);
  EXPECT_LE(QueueAt(window_.bytes()), milliseconds(30));
}

TEST_F(FetchWindowTest, DoesNotGrowWhileNobodyFillsIt) {
  Meet();
  Turns(100, /*full=*/false);
  EXPECT_LE(window_.bytes(), uint64_t{256} << 10);
}

// A server that sends no faster, whatever is asked for, has no queue to show.
TEST_F(FetchWindowTest, GrowsNoFurtherThanTheRateIsWorth) {
  Meet();
  for (int i = 0; i < 1000; ++i) {
    now_ += round_trip_;
    window_.OnFirstByte(now_, round_trip_);
    window_.OnReceived(now_, 500'000, true);
  }
  EXPECT_LE(window_.bytes(), 3'000'000U);
}

TEST_F(FetchWindowTest, HasBounds) {
  window_ = FetchWindow({.bytes_start = 256 << 10, .bytes_max = 300 << 10});
  Meet();
  Turns(10);
  EXPECT_EQ(window_.bytes(), uint64_t{300} << 10);
  rate_ = 1e5;
  Turns(100);
  EXPECT_EQ(window_.bytes(), FetchWindow::Options{}.bytes_min);
}

TEST_F(FetchWindowTest, OneLateReplyIsNoQueue) {
  Meet();
  Turns(2);
  const uint64_t before = window_.bytes();
  window_.OnFirstByte(now_, seconds(1));
  window_.OnReceived(now_, before / 8, true);
  EXPECT_GE(window_.bytes(), before);
}

// Many connections that begin at once make a queue, which is gone when they
// have been answered.
TEST_F(FetchWindowTest, FirstRepliesThatComeTogetherAreNoQueue) {
  round_trip_ = milliseconds(200);
  now_ += round_trip_;
  for (int reply = 0; reply < 24; ++reply) {
    window_.OnFirstByte(now_, round_trip_ + milliseconds(2) * reply);
    window_.OnReceived(now_, 14'000, true);
    now_ += milliseconds(2);
  }
  Turns(12);
  EXPECT_GE(static_cast<double>(window_.bytes()), rate_ * Trip(round_trip_));
}

TEST_F(FetchWindowTest, BurstIsWhatTheLinkBringsInAMoment) {
  EXPECT_EQ(window_.burst_bytes(), 0U);
  Meet();
  Turns(100);
  EXPECT_NEAR(static_cast<double>(window_.burst_bytes()), rate_ / 100,
              rate_ / 1000);
}

// A machine or a server that is busy answers late, whatever is asked for.
TEST_F(FetchWindowTest, LateRepliesAloneDoNotCloseIt) {
  Meet();
  Turns(100);
  for (int i = 0; i < 1000; ++i) {
    now_ += milliseconds(20);
    window_.OnFirstByte(now_, milliseconds(80));
    window_.OnReceived(now_, 250'000, true);
  }
  EXPECT_GE(window_.bytes(), 250'000U);
}

TEST_F(FetchWindowTest, GentleLeavesNoQueue) {
  Meet();
  Turns(100);
  EXPECT_LT(window_.gentle_bytes(), window_.bytes());
  EXPECT_EQ(QueueAt(window_.gentle_bytes()), Duration(0));
  // And yet some of the link is used.
  EXPECT_GE(static_cast<double>(window_.gentle_bytes()),
            rate_ * Trip(round_trip_) / 2);
}

TEST_F(FetchWindowTest, ALongerWayIsLearnedInTime) {
  Meet();
  Turns(10);
  round_trip_ = milliseconds(120);
  Turns(1);
  EXPECT_EQ(window_.round_trip(), milliseconds(20));
  now_ += minutes(10);
  Meet();
  EXPECT_EQ(window_.round_trip(), milliseconds(120));
}

}  // namespace
}  // namespace bootstream
