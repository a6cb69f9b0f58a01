#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <thread>

#include "initramfs/driver/control_client.h"
#include "initramfs/driver/control_server.h"

namespace bootstream {
namespace {

using nlohmann::json;

class ControlTest : public testing::Test {
 protected:
  ControlTest() : folder_(testing::TempDir() + "control-XXXXXX") {
    EXPECT_NE(::mkdtemp(folder_.data()), nullptr);
  }
  ~ControlTest() override { std::filesystem::remove_all(folder_); }
  std::string path() const { return folder_ + "/socket"; }

  // What the server, with `handler`, answers to the line `request`.
  json AnswerTo(const std::string& request, ControlServer::Handler handler) {
    auto loop = std::move(IoLoop::Create(16).value());
    auto listener = ControlServer::Listen(path());
    EXPECT_TRUE(listener.has_value());
    const auto server =
        ControlServer::Serve(*loop, std::move(*listener), std::move(handler));
    std::string reply;
    Event answered;
    std::thread client([&] {
      const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
      sockaddr_un address{};
      address.sun_family = AF_UNIX;
      std::strncpy(address.sun_path, path().c_str(),
                   sizeof address.sun_path - 1);
      EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address),
                          sizeof address),
                0);
      const std::string line = request + "\n";
      EXPECT_EQ(::send(fd.get(), line.data(), line.size(), 0),
                static_cast<ssize_t>(line.size()));
      char byte = 0;
      while (::recv(fd.get(), &byte, 1, 0) == 1 && byte != '\n') reply += byte;
      loop->Post([&answered] { answered.Set(); });
    });
    EXPECT_TRUE(loop->RunUntilDone(StopAfter(answered, *server)).has_value());
    client.join();
    return json::parse(reply, nullptr, false);
  }

  static Task<Status> StopAfter(Event& event, ControlServer& server) {
    co_await event;
    co_await server.Stop();
    co_return OkStatus();
  }

  std::string folder_;
};

Task<json> Copying(json request, ControlConnection&) {
  const json action = request.value("action", json());
  co_return json{{"action", action}};
}

Task<json> NoUtf8(json, ControlConnection&) {
  co_return json{{"failure", "range '\xff\xfe'"}};
}

TEST_F(ControlTest, NestingHasABound) {
  const size_t deep = 30000;
  const std::string nested = std::string(deep, '[') + std::string(deep, ']');
  const json answer =
      AnswerTo(R"({"command":"x","action":)" + nested + "}", &Copying);
  ASSERT_TRUE(answer.is_object());
  EXPECT_FALSE(answer["ok"]);
}

TEST_F(ControlTest, BracketsInStringsAreNoNesting) {
  const std::string text(100, '[');
  const json answer =
      AnswerTo(R"({"command":"x","action":"\")" + text + R"("})", &Copying);
  EXPECT_EQ(answer["action"], "\"" + text);
  // Nor do they make up for brackets outside.
  std::string nested;
  for (int i = 0; i < 100; ++i) nested += R"(["]",)";
  EXPECT_FALSE(AnswerTo(R"({"command":)" + nested, &Copying)["ok"]);
}

TEST_F(ControlTest, WordsThatAreNoUtf8AreAnswered) {
  const json answer = AnswerTo(R"({"command":"status"})", &NoUtf8);
  ASSERT_TRUE(answer.is_object());
  EXPECT_TRUE(answer["ok"]);
}

// Whoever ends without a word leaves nothing behind.
TEST_F(ControlTest, WhatAConnectionHoldsEndsWithIt) {
  auto loop = std::move(IoLoop::Create(16).value());
  auto listener = ControlServer::Listen(path());
  ASSERT_TRUE(listener.has_value());
  std::atomic<bool> held = false;
  Event over;
  const auto server = ControlServer::Serve(
      *loop, std::move(*listener),
      [&](json request, ControlConnection& connection) {
        held = true;
        connection.held = {&held, [&](std::atomic<bool>* flag) {
                             *flag = false;
                             over.Set();
                           }};
        return Copying(std::move(request), connection);
      });
  bool held_at_answer = false;
  std::thread client([&] {
    auto connected = ControlClient::Connect(path());
    ASSERT_TRUE(connected.has_value());
    EXPECT_TRUE(connected->Ask({{"command", "x"}}).has_value());
    held_at_answer = held;
  });
  loop->PostAfter(std::chrono::seconds(5), [&] {
    if (!over.is_set()) over.Set();
  });
  EXPECT_TRUE(loop->RunUntilDone(StopAfter(over, *server)).has_value());
  client.join();
  EXPECT_TRUE(held_at_answer);
  EXPECT_FALSE(held);
}

class ControlReplyTest : public ControlTest,
                         public testing::WithParamInterface<const char*> {};

TEST_P(ControlReplyTest, OddOneIsNoYes) {
  const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path().c_str(), sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address),
                   sizeof address),
            0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  auto client = ControlClient::Connect(path());
  ASSERT_TRUE(client.has_value());
  const UniqueFd peer(::accept(listener.get(), nullptr, nullptr));
  const std::string line = std::string(GetParam()) + "\n";
  ASSERT_EQ(::send(peer.get(), line.data(), line.size(), 0),
            static_cast<ssize_t>(line.size()));
  EXPECT_FALSE(client->Ask({{"command", "status"}}).has_value());
}

INSTANTIATE_TEST_SUITE_P(Replies, ControlReplyTest,
                         testing::Values("", "[]", "{}", R"({"ok":"yes"})",
                                         R"({"ok":null})", R"({"ok":1})",
                                         R"({"ok":false,"error":7})"));

}  // namespace
}  // namespace bootstream
