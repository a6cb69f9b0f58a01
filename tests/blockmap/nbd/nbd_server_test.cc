#include "blockmap/nbd/nbd_server.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <thread>

#include "blockmap/nbd/nbd_protocol.h"
#include "tests/support/memory_service.h"

namespace bootstream {
namespace {

class NbdServerTest : public testing::Test {
 protected:
  NbdServerTest() : loop_(std::move(IoLoop::Create().value())) {
    std::string pattern = testing::TempDir() + "nbdXXXXXX";
    directory_ = ::mkdtemp(pattern.data());
    path_ = directory_ + "/socket";
  }
  ~NbdServerTest() override {
    ::unlink(path_.c_str());
    ::rmdir(directory_.c_str());
  }
  Result<std::unique_ptr<NbdServer>> Listen() {
    return NbdServer::Listen(*loop_, service_, path_, {});
  }
  UniqueFd Connect() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address),
                  sizeof address) != 0) {
      fd.reset();
    }
    return fd;
  }

  std::unique_ptr<IoLoop> loop_;
  MemoryService service_{1 << 20};
  std::string directory_;
  std::string path_;
};

std::string Greeting(int fd) {
  std::string out(18, 0);
  const ssize_t n = ::recv(fd, out.data(), out.size(), MSG_WAITALL);
  out.resize(n < 0 ? 0 : static_cast<size_t>(n));
  return out;
}

// Stop `server` as soon as it has `count` clients.
Task<Status> StopWhenConnected(IoLoop& loop, NbdServer& server, size_t count) {
  while (server.client_count() < count) {
    co_await loop.Sleep(std::chrono::milliseconds(1));
  }
  co_return co_await server.Stop();
}

Task<Status> StopWhen(IoLoop& loop, NbdServer& server,
                      const std::atomic<bool>& done) {
  while (!done) co_await loop.Sleep(std::chrono::milliseconds(1));
  co_return co_await server.Stop();
}

TEST_F(NbdServerTest, ManyClientsAreGreetedAndHungUpAtStop) {
  auto server = Listen();
  ASSERT_TRUE(server.has_value()) << server.error().message;
  struct stat info {};
  ASSERT_EQ(::lstat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  size_t greeted = 0;
  bool closed = true;
  std::thread clients([&] {
    std::vector<UniqueFd> sockets(20);
    for (auto& s : sockets) s = Connect();
    for (auto& s : sockets)
      greeted += Greeting(s.get()).starts_with("NBDMAGIC");
    for (auto& s : sockets) closed = closed && Greeting(s.get()).empty();
  });
  EXPECT_TRUE(loop_->RunUntilDone(StopWhenConnected(*loop_, **server, 20)));
  clients.join();
  EXPECT_EQ(greeted, 20u);
  EXPECT_TRUE(closed);
  EXPECT_NE(::lstat(path_.c_str(), &info), 0) << "the socket is left";
}

TEST_F(NbdServerTest, SocketOfADeadProcessIsReplacedALiveOneIsNot) {
  {
    auto dead = Listen();
    ASSERT_TRUE(dead.has_value());
    // As after kill -9: the node stays, nobody listens.
    ASSERT_EQ(::rename(path_.c_str(), (path_ + "x").c_str()), 0);
    EXPECT_TRUE(loop_->RunUntilDone((*dead)->Stop()));
    ASSERT_EQ(::rename((path_ + "x").c_str(), path_.c_str()), 0);
  }
  auto live = Listen();
  ASSERT_TRUE(live.has_value()) << live.error().message;
  std::atomic<bool> asked = false;
  std::thread other([&] {
    const auto second = ListenForNbd(path_);
    EXPECT_FALSE(second.has_value());
    EXPECT_TRUE(second || second.error().code == ErrorCode::kUnavailable);
    asked = true;
  });
  EXPECT_TRUE(loop_->RunUntilDone(StopWhen(*loop_, **live, asked)));
  other.join();
}

// What the kernel does with the accept under way of a process that was killed.
TEST_F(NbdServerTest, SocketOfADyingProcessIsWaitedFor) {
  auto listener = ListenForNbd(path_);
  ASSERT_TRUE(listener.has_value()) << listener.error().message;
  std::thread dying([&] {
    // It takes the client that asks, and goes.
    const UniqueFd client(::accept(listener->get(), nullptr, nullptr));
    listener->reset();
  });
  const auto next = ListenForNbd(path_);
  dying.join();
  EXPECT_TRUE(next.has_value()) << next.error().message;
}

TEST_F(NbdServerTest, PathsThatCannotBeAreRefused) {
  std::ofstream(path_) << "precious";
  EXPECT_FALSE(Listen().has_value()) << "a file was replaced";
  const auto longer =
      NbdServer::Listen(*loop_, service_, "/" + std::string(200, 'x'), {});
  ASSERT_FALSE(longer.has_value());
  EXPECT_EQ(longer.error().code, ErrorCode::kInvalid);
}

TEST_F(NbdServerTest, AdoptedListenerOutlivesTheServer) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path_.data(), path_.size());
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address),
                   sizeof address),
            0);
  EXPECT_FALSE(
      NbdServer::Adopt(*loop_, service_, UniqueFd(::dup(listener.get())), {})
          .has_value())
      << "it does not listen yet";
  ASSERT_EQ(::listen(listener.get(), 8), 0);
  for (int round = 0; round < 2; ++round) {
    auto server =
        NbdServer::Adopt(*loop_, service_, UniqueFd(::dup(listener.get())), {});
    ASSERT_TRUE(server.has_value()) << server.error().message;
    std::string greeting;
    std::thread client([&] {
      const UniqueFd fd = Connect();
      greeting = Greeting(fd.get());
      Greeting(fd.get());  // until the server hangs up
    });
    EXPECT_TRUE(loop_->RunUntilDone(StopWhenConnected(*loop_, **server, 1)));
    client.join();
    EXPECT_TRUE(greeting.starts_with("NBDMAGIC"));
  }
}

}  // namespace
}  // namespace bootstream
