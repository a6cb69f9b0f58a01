#include "blockmap/base/io_loop.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <thread>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/base/uring_block_device.h"

namespace bootstream {
namespace {

Task<Status> SleepTwice(IoLoop& loop, std::vector<int>& order) {
  loop.PostAfter(std::chrono::milliseconds(2), [&] { order.push_back(2); });
  co_await loop.Sleep(std::chrono::milliseconds(1));
  order.push_back(1);
  co_await loop.Sleep(std::chrono::milliseconds(5));
  order.push_back(3);
  co_return OkStatus();
}

TEST(IoLoopTest, TimersRunInOrder) {
  auto loop = IoLoop::Create();
  ASSERT_TRUE(loop.has_value()) << loop.error().message;
  std::vector<int> order;
  ASSERT_TRUE((*loop)->RunUntilDone(SleepTwice(**loop, order)).has_value());
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

TEST(IoLoopTest, WorkPostedByAnotherThreadRunsOnTheLoop) {
  auto loop = IoLoop::Create();
  ASSERT_TRUE(loop.has_value());
  std::thread::id ran_on;
  std::thread poster([&] {
    (*loop)->Post([&] { ran_on = std::this_thread::get_id(); });
    (*loop)->Stop();
  });
  (*loop)->Run();
  poster.join();
  EXPECT_EQ(ran_on, std::this_thread::get_id());
}

Task<Status> Echo(IoLoop& loop, int a, int b) {
  std::vector<std::byte> sent(300'000, std::byte{5}), got(300'000);
  std::vector<Task<Status>> both;
  both.push_back(loop.SendAll(a, sent));
  both.push_back(loop.RecvAll(b, got));
  if (auto s = co_await JoinAll(std::move(both)); !s) co_return s;
  if (got != sent) co_return Error{ErrorCode::kCorrupt, "differs"};
  ::shutdown(a, SHUT_RDWR);
  co_return co_await loop.RecvAll(b, got);
}

TEST(IoLoopTest, SocketsCarryAllBytesAndTellOfTheEnd) {
  auto loop = IoLoop::Create();
  ASSERT_TRUE(loop.has_value());
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  UniqueFd a(pair[0]), b(pair[1]);
  const Status end = (*loop)->RunUntilDone(Echo(**loop, a.get(), b.get()));
  ASSERT_FALSE(end.has_value());
  EXPECT_EQ(end.error().code, ErrorCode::kUnavailable) << end.error().message;
}

Task<Status> WriteFlushRead(BlockDevice& device) {
  AlignedBuffer out(1 << 16), in(1 << 16);
  for (auto& byte : out.span()) byte = std::byte{9};
  if (auto s = co_await device.Write(4096, out.span()); !s) co_return s;
  if (auto s = co_await device.Flush(); !s) co_return s;
  if (auto s = co_await device.Read(4096, in.span()); !s) co_return s;
  if (in.span()[65535] != std::byte{9}) {
    co_return Error{ErrorCode::kCorrupt, "differs"};
  }
  // Half of this read lies behind the end.
  co_return co_await device.Read((1 << 20) - (1 << 15), in.span());
}

TEST(UringBlockDeviceTest, RoundTripsAndCallsAShortReadAnError) {
  auto loop = IoLoop::Create();
  ASSERT_TRUE(loop.has_value());
  UniqueFd file(::memfd_create("disk", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file.get(), 1 << 20), 0);
  auto device = UringBlockDevice::Adopt(**loop, std::move(file));
  ASSERT_TRUE(device.has_value());
  const Status s = (*loop)->RunUntilDone(WriteFlushRead(**device));
  ASSERT_FALSE(s.has_value());
  EXPECT_EQ(s.error().code, ErrorCode::kIo);
}

}  // namespace
}  // namespace bootstream
