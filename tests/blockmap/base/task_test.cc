#include "blockmap/base/task.h"

#include <gtest/gtest.h>

#include "tests/support/memory_device.h"

namespace bootstream {
namespace {

Task<int> One() { co_return 1; }

Task<int> SumOfMany(int count) {
  int sum = 0;
  for (int i = 0; i < count; ++i) sum += co_await One();
  co_return sum;
}

TEST(TaskTest, LongLoopThatNeverWaitsKeepsTheStackFlat) {
  EXPECT_EQ(RunInline(SumOfMany(1'000'000)), 1'000'000);
}

Task<void> WaitThenCount(Event& event, int& count) {
  co_await event;
  ++count;
}

TEST(TaskTest, EventWakesEverybodyOnceAndStaysSet) {
  Event event;
  int count = 0;
  Spawn(WaitThenCount(event, count));
  Spawn(WaitThenCount(event, count));
  EXPECT_EQ(count, 0);
  event.Set();
  EXPECT_EQ(count, 2);
  Spawn(WaitThenCount(event, count));
  EXPECT_EQ(count, 3);
}

Task<void> Hold(AsyncSharedMutex& mutex, bool exclusive, Event& release,
                std::vector<int>& order, int name) {
  auto guard = exclusive ? mutex.Lock() : mutex.LockShared();
  auto held = co_await guard;
  order.push_back(name);
  co_await release;
}

TEST(AsyncSharedMutexTest, WaitingWriterHoldsBackLaterReaders) {
  AsyncSharedMutex mutex;
  Event first, second, third;
  std::vector<int> order;
  Spawn(Hold(mutex, false, first, order, 1));
  Spawn(Hold(mutex, true, second, order, 2));
  Spawn(Hold(mutex, false, third, order, 3));
  EXPECT_EQ(order, (std::vector<int>{1}));
  first.Set();
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
  second.Set();
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
  third.Set();
  EXPECT_TRUE(mutex.idle());
}

Task<Status> FailAfter(Event& event) {
  co_await event;
  co_return Error{ErrorCode::kIo, "late"};
}

Task<Status> Succeed() { co_return OkStatus(); }

TEST(JoinAllTest, WaitsForAllAndKeepsTheFirstError) {
  Event event;
  std::vector<Task<Status>> tasks;
  tasks.push_back(FailAfter(event));
  tasks.push_back(Succeed());
  std::optional<Status> result;
  Spawn([](std::vector<Task<Status>> all,
           std::optional<Status>& out) -> Task<void> {
    out.emplace(co_await JoinAll(std::move(all)));
  }(std::move(tasks), result));
  EXPECT_FALSE(result.has_value());
  event.Set();
  ASSERT_TRUE(result.has_value());
  ASSERT_FALSE(result->has_value());
  EXPECT_EQ(result->error().message, "late");
}

Task<Status> CopyBlock(BlockDevice& device) {
  std::vector<std::byte> block(4096, std::byte{7});
  if (auto s = co_await device.Write(8192, block); !s) co_return s;
  if (auto s = co_await device.Flush(); !s) co_return s;
  co_return co_await device.Read(8192, block);
}

TEST(TaskTest, BlockingDeviceCompletesInline) {
  MemoryDevice device(1 << 20);
  ASSERT_TRUE(RunInline(CopyBlock(device)).has_value());
  EXPECT_EQ(device.bytes()[8192], std::byte{7});
  EXPECT_EQ(device.flush_count(), 1U);
}

}  // namespace
}  // namespace bootstream
