// What the server does about clients that are slow, greedy or gone, and about
// being stopped.  Time-outs are made tiny and waited for; nothing here measures
// time.

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <thread>

#include "tests/imgserver/server_fixture.h"

namespace bootstream {
namespace {

constexpr char kGetBig[] = "GET /boot/big HTTP/1.1\r\nHost: a\r\n\r\n";

TEST_F(ServerTest, UnfinishedHeaderIsDropped) {
  ServerConfig config;
  config.header_timeout_ms = 20;
  StartServer(config);
  RawClient client = Connect();
  client.Send("GET /boot/vmlinuz HTTP/1.1\r\nHost:");
  const auto reply = client.Receive();
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(reply->status, 408);
  EXPECT_EQ(reply->field("Connection"), "close");
  EXPECT_TRUE(client.IsAtEnd());
}

TEST_F(ServerTest, HeaderThatTricklesInIsDropped) {
  ServerConfig config;
  config.header_timeout_ms = 20;
  StartServer(config);
  RawClient client = Connect();
  client.Send("GET /boot/vmlinuz HTTP/1.1\r\n");
  // Each line is progress, yet the whole must arrive in time.
  EXPECT_TRUE(Eventually([&] {
    client.Send("X: y\r\n");
    return log().find(" 408 ") != std::string::npos;
  }));
}

TEST_F(ServerTest, SilentConnectionIsDropped) {
  ServerConfig config;
  config.header_timeout_ms = 20;
  StartServer(config);
  RawClient client = Connect();
  EXPECT_TRUE(client.IsAtEnd());
}

TEST_F(ServerTest, IdleConnectionIsDropped) {
  ServerConfig config;
  config.idle_timeout_ms = 20;
  StartServer(config);
  RawClient client = Connect();
  EXPECT_EQ(client.Get("/boot/vmlinuz")->status, 200);
  EXPECT_TRUE(client.IsAtEnd());
}

TEST_F(ServerTest, ReaderThatStallsIsDropped) {
  ServerConfig config;
  config.send_timeout_ms = 20;
  WriteBigFile("repo/boot/big");
  StartServer(config);
  RawClient client = Connect();
  client.Send(kGetBig);
  EXPECT_TRUE(LogSays("slow"));
  EXPECT_LT(client.ReceiveBytes(2 * kBigBytes).size(), kBigBytes);
}

TEST_F(ServerTest, HugeHeaderIsRefused) {
  StartServer();
  for (const size_t size : {size_t{8192}, size_t{1} << 20}) {
    RawClient client = Connect();
    client.Send("GET /boot/vmlinuz HTTP/1.1\r\nX: " + std::string(size, 'x'));
    client.FinishSending();
    const auto reply = client.Receive();
    ASSERT_TRUE(reply.has_value()) << size;
    EXPECT_EQ(reply->status, 431);
  }
}

TEST_F(ServerTest, HugeTargetIsRefused) {
  StartServer();
  for (const size_t size : {size_t{3000}, size_t{100000}}) {
    RawClient client = Connect();
    client.Send("GET /boot/" + std::string(size, 'x') +
                " HTTP/1.1\r\nHost: a\r\n\r\n");
    client.FinishSending();
    const auto reply = client.Receive();
    ASSERT_TRUE(reply.has_value()) << size;
    EXPECT_EQ(reply->status, 414);
  }
}

TEST_F(ServerTest, LastRequestOfAConnectionIsAnnounced) {
  ServerConfig config;
  config.requests_per_connection_max = 2;
  StartServer(config);
  RawClient client = Connect();
  EXPECT_EQ(client.Get("/boot/vmlinuz")->field("Connection"), "");
  EXPECT_EQ(client.Get("/boot/vmlinuz")->field("Connection"), "close");
  EXPECT_TRUE(client.IsAtEnd());
}

TEST_F(ServerTest, ConnectionsAboveTheLimitAreTurnedAway) {
  ServerConfig config;
  config.connections_per_address_max = 2;
  StartServer(config);
  RawClient first = Connect();
  {
    RawClient second = Connect();
    EXPECT_EQ(first.Get("/boot/vmlinuz")->status, 200);
    EXPECT_EQ(second.Get("/boot/vmlinuz")->status, 200);
    RawClient third = Connect();
    const auto reply = third.Receive();
    ASSERT_TRUE(reply.has_value());
    EXPECT_EQ(reply->status, 503);
    EXPECT_EQ(reply->field("Retry-After"), "1");
    EXPECT_TRUE(third.IsAtEnd());
  }
  // The second has left; its place becomes free.
  EXPECT_TRUE(Eventually([&] {
    const auto reply = Connect().Get("/boot/vmlinuz");
    return reply && reply->status == 200;
  }));
}

TEST_F(ServerTest, ClientThatLeavesInTheMiddleHarmsNobody) {
  WriteBigFile("repo/boot/big");
  ServerConfig config;
  config.threads = 1;
  StartServer(config);
  RawClient other = Connect();
  for (int i = 0; i < 20; ++i) {
    RawClient client = Connect();
    client.Send(kGetBig);
    EXPECT_EQ(client.ReceiveBytes(1000).size(), 1000U);
    client.Reset();
    EXPECT_EQ(other.Get("/boot/vmlinuz")->body, "kernel");
  }
  EXPECT_TRUE(LogSays("gone"));
}

TEST_F(ServerTest, OneLongBodyDoesNotHoldUpOthers) {
  WriteBigFile("repo/boot/big");
  ServerConfig config;
  config.threads = 1;
  StartServer(config);
  RawClient reader = Connect();
  reader.Send(kGetBig);
  RawClient other = Connect();
  EXPECT_EQ(other.Get("/boot/vmlinuz")->body, "kernel");
  const auto reply = reader.Receive();
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(reply->body, std::string(kBigBytes, '\0'));
}

TEST_F(ServerTest, FileThatBecomesShorterEndsTheConnection) {
  WriteBigFile("repo/boot/big");
  StartServer();
  RawClient client = Connect();
  client.Send(kGetBig);
  client.ReceiveBytes(1000);
  std::filesystem::resize_file(root_ / "repo/boot/big", 0);
  EXPECT_LT(client.ReceiveBytes(2 * kBigBytes).size(), kBigBytes);
  EXPECT_TRUE(LogSays("cut"));
}

TEST_F(ServerTest, StopFinishesTheAnswerInHand) {
  WriteBigFile("repo/boot/big");
  ServerConfig config;
  config.stop_timeout_ms = 60000;
  StartServer(config);
  RawClient idle = Connect();
  EXPECT_EQ(idle.Get("/boot/vmlinuz")->status, 200);
  RawClient client = Connect();
  client.Send(kGetBig);
  const std::string begin = client.ReceiveBytes(1000);
  std::thread stop([&] { server_->Stop(); });
  EXPECT_TRUE(idle.IsAtEnd());
  const std::string rest = client.ReceiveBytes(2 * kBigBytes);
  stop.join();
  const size_t body_at = begin.find("\r\n\r\n") + 4;
  EXPECT_EQ(begin.size() + rest.size() - body_at, kBigBytes);
  EXPECT_TRUE(LogSays("done"));
}

TEST_F(ServerTest, StopDoesNotWaitForEver) {
  WriteBigFile("repo/boot/big");
  ServerConfig config;
  config.stop_timeout_ms = 20;
  StartServer(config);
  RawClient client = Connect();
  client.Send(kGetBig);
  EXPECT_EQ(client.ReceiveBytes(1000).size(), 1000U);
  server_->Stop();
  EXPECT_TRUE(LogSays("stop"));
}

TEST_F(ServerTest, StoppedWithoutACourtesyItStillEnds) {
  WriteBigFile("repo/boot/big");
  StartServer();
  RawClient client = Connect();
  client.Send(kGetBig);
  EXPECT_EQ(client.ReceiveBytes(1000).size(), 1000U);
  server_.reset();
  EXPECT_LT(client.ReceiveBytes(2 * kBigBytes).size(), kBigBytes);
}

}  // namespace
}  // namespace bootstream
