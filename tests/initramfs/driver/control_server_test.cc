#include "initramfs/driver/control_server.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <thread>

#include "initramfs/driver/control_client.h"
#include "initramfs/driver/status_file.h"

namespace bootstream {
namespace {

using nlohmann::json;

constexpr uid_t kNobody = 65534;

// For this thread alone: the system call, not the library's function.
void BecomeNobody() {
  ASSERT_EQ(::syscall(SYS_setresuid, kNobody, kNobody, kNobody), 0);
}

// The server in a process of its own, as it is; clients in threads of ours.
class ControlServerTest : public testing::Test {
 protected:
  ControlServerTest() {
    char name[] = "/dev/shm/bootstream-test.XXXXXX";
    directory_ = ::mkdtemp(name);
    ::chmod(name, 0755);
    path_ = directory_ + "/control";
  }
  ~ControlServerTest() override {
    if (server_ > 0) {
      ::kill(server_, SIGKILL);
      ::waitpid(server_, nullptr, 0);
    }
    std::filesystem::remove_all(directory_);
  }

  void Listen() {
    std::array<int, 2> ends;
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const UniqueFd reader(ends[0]);
    UniqueFd writer(ends[1]);
    server_ = ::fork();
    ASSERT_GE(server_, 0);
    if (server_ == 0) Serve(writer.get());
    writer.reset();
    char byte = 0;
    ASSERT_EQ(::read(reader.get(), &byte, 1), 1) << "it did not come up";
  }
  [[noreturn]] void Serve(int ready) {
    auto loop = IoLoop::Create();
    if (!loop) ::_exit(1);
    auto listener = ControlServer::Listen(path_);
    if (!listener) ::_exit(1);
    const auto server = ControlServer::Serve(
        **loop, std::move(*listener), [](json request, ControlConnection&) {
          return Answer(std::move(request));
        });
    if (::write(ready, "", 1) != 1) ::_exit(1);
    (*loop)->Run();
    ::_exit(0);
  }
  static Task<json> Answer(json request) {
    co_return json{{"command", request["command"]}};
  }
  // What a client gets that connects as root or as nobody.
  Result<json> Ask(bool as_nobody) {
    std::optional<Result<json>> reply;
    std::thread client([&] {
      if (as_nobody) BecomeNobody();
      auto connected = ControlClient::Connect(path_);
      reply.emplace(connected ? connected->Ask({{"command", "status"}})
                              : Result<json>(connected.error()));
    });
    client.join();
    return std::move(*reply);
  }

  std::string directory_;
  std::string path_;
  pid_t server_ = -1;
};

TEST_F(ControlServerTest, SocketIsForItsOwnerOnly) {
  const mode_t before = ::umask(0);
  Listen();
  ::umask(before);
  struct stat info {};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
  const auto reply = Ask(false);
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ((*reply)["command"], "status");
}

TEST_F(ControlServerTest, OthersAreNotListenedToEvenIfTheyCanConnect) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  Listen();
  EXPECT_FALSE(Ask(true)) << "the socket's mode lets nobody in";
  ASSERT_EQ(::chmod(path_.c_str(), 0666), 0);
  const auto reply = Ask(true);
  ASSERT_FALSE(reply);
  EXPECT_NE(reply.error().message.find("only root"), std::string::npos)
      << reply.error().message;
}

TEST_F(ControlServerTest, StatusFileIsForEverybodyToRead) {
  const std::string path = directory_ + "/status.json";
  const mode_t before = ::umask(077);
  auto file = StatusFile::Open(path);
  ASSERT_TRUE(file);
  ASSERT_TRUE(file->Replace("{}\n"));
  ::umask(before);
  struct stat info {};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0644U);
}

}  // namespace
}  // namespace bootstream
