#include "initramfs/driver/disk_yield.h"

#include <gtest/gtest.h>

#include "tests/support/test_executor.h"

namespace bootstream {
namespace {

using std::chrono::milliseconds;

class DiskYieldTest : public testing::Test {
 protected:
  DiskYieldTest() { executor_.Advance(std::chrono::seconds(10)); }

  // Pieces of work, one after the other.
  Task<void> Work() {
    while (working_) {
      co_await yield_.Turn();
      ++done_;
      co_await executor_.Sleep(milliseconds(2));
    }
  }
  int DoneIn(milliseconds time) {
    const int before = done_;
    executor_.Advance(time);
    return done_ - before;
  }
  void Begin() { Spawn(Work()); }
  void End() {
    working_ = false;
    yield_.Stop();
    while (executor_.RunNextTimer()) {
    }
  }

  TestExecutor executor_;
  bool in_use_ = false;
  bool working_ = true;
  int done_ = 0;
  DiskYield yield_{executor_, [this] { return in_use_; }, {}};
};

TEST_F(DiskYieldTest, AQuietDiskKeepsNobody) {
  Begin();
  EXPECT_GE(DoneIn(milliseconds(1000)), 490);
  End();
}

TEST_F(DiskYieldTest, ABusyDiskIsLeftAloneButForALittle) {
  Begin();
  in_use_ = true;
  (void)DoneIn(milliseconds(200));
  const int done = DoneIn(milliseconds(1000));
  EXPECT_LE(done, 10);
  EXPECT_GE(done, 8);
  End();
}

TEST_F(DiskYieldTest, AllWaitersTogetherMakeThatLittle) {
  for (int i = 0; i < 20; ++i) Begin();
  in_use_ = true;
  (void)DoneIn(milliseconds(200));
  EXPECT_LE(DoneIn(milliseconds(1000)), 10);
  End();
}

TEST_F(DiskYieldTest, GoesOnWhenTheDiskIsQuietAgain) {
  Begin();
  in_use_ = true;
  (void)DoneIn(milliseconds(500));
  in_use_ = false;
  (void)DoneIn(milliseconds(60));  // until most looks have found it so
  EXPECT_GE(DoneIn(milliseconds(100)), 45);
  End();
}

TEST_F(DiskYieldTest, OneRequestNowAndThenIsNotBusy) {
  Begin();
  for (int i = 0; i < 20; ++i) {
    in_use_ = i % 4 == 0;
    EXPECT_GE(DoneIn(milliseconds(10)), 4) << i;
  }
  End();
}

TEST_F(DiskYieldTest, NoShareIsNoYielding) {
  yield_.Stop();
  in_use_ = true;
  Begin();
  EXPECT_GE(DoneIn(milliseconds(1000)), 490);
  End();
}

TEST_F(DiskYieldTest, WhoWaitsGoesOnAtTheEnd) {
  Begin();
  in_use_ = true;
  (void)DoneIn(milliseconds(500));
  const int before = done_;
  End();
  EXPECT_GE(done_, before + 1);
}

}  // namespace
}  // namespace bootstream
