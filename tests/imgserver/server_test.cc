#include "imgserver/server.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <sstream>
#include <string>

#include "tests/imgserver/server_fixture.h"

namespace bootstream {
namespace {

TEST_F(ServerTest, WholeFileComesAsItIs) {
  StartServer();
  RawClient client = Connect();
  const auto reply = client.Get(pack_path_);
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(reply->status, 200);
  EXPECT_EQ(reply->body, pack_);
  EXPECT_EQ(reply->field("ETag"), "\"" + pack_name_ + "\"");
  EXPECT_EQ(reply->field("Cache-Control"),
            "public, max-age=31536000, immutable");
}

TEST_F(ServerTest, RangesAtBothEnds) {
  StartServer();
  RawClient client = Connect();
  const size_t size = pack_.size();
  const std::string last = std::to_string(size - 1);
  const auto expect = [&](const std::string& range, size_t first,
                          size_t count) {
    const auto reply = client.Get(pack_path_, "Range: bytes=" + range + "\r\n");
    ASSERT_TRUE(reply.has_value()) << range;
    EXPECT_EQ(reply->status, 206) << range;
    EXPECT_EQ(reply->body, pack_.substr(first, count)) << range;
    EXPECT_EQ(reply->field("Content-Range"),
              "bytes " + std::to_string(first) + "-" +
                  std::to_string(first + count - 1) + "/" +
                  std::to_string(size))
        << range;
  };
  expect("0-0", 0, 1);
  expect("0-" + last, 0, size);
  expect(last + "-" + last, size - 1, 1);
  expect(last + "-", size - 1, 1);
  expect("-1", size - 1, 1);
  expect("100-1000000000", 100, size - 100);
  const auto reply =
      client.Get(pack_path_, "Range: bytes=" + std::to_string(size) + "-\r\n");
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(reply->status, 416);
  EXPECT_EQ(reply->field("Content-Range"), "bytes */" + std::to_string(size));
}

TEST_F(ServerTest, PipelinedRequestsAreAnsweredInOrder) {
  StartServer();
  RawClient client = Connect();
  std::string text;
  constexpr int kCount = 200;
  for (int i = 0; i < kCount; ++i) {
    text += "GET " + pack_path_ +
            " HTTP/1.1\r\nHost: a\r\nRange: bytes=" + std::to_string(i) + "-" +
            std::to_string(i + 999) + "\r\n\r\n";
  }
  client.Send(text);
  for (size_t i = 0; i < kCount; ++i) {
    const auto reply = client.Receive();
    ASSERT_TRUE(reply.has_value()) << i;
    EXPECT_EQ(reply->body, pack_.substr(i, 1000)) << i;
  }
}

TEST_F(ServerTest, HeaderMayComeByteByByteAfterEmptyLines) {
  StartServer();
  RawClient client = Connect();
  const std::string text =
      "\r\n\r\nGET /boot/vmlinuz HTTP/1.1\r\nHost: a\r\n\r\n";
  for (const char c : text) client.Send(std::string(1, c));
  const auto reply = client.Receive();
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(reply->body, "kernel");
}

TEST_F(ServerTest, ConnectionLivesOnAfterNotFound) {
  StartServer();
  RawClient client = Connect();
  EXPECT_EQ(client.Get("/boot/nothing")->status, 404);
  EXPECT_EQ(client.Get("/packs/ab/x", "Range: bytes=0-1\r\n")->status, 404);
  const auto reply = client.Get("/boot/vmlinuz");
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(reply->status, 200);
  EXPECT_EQ(reply->field("Cache-Control"), "no-cache");
}

TEST_F(ServerTest, HeadSendsNoBody) {
  StartServer();
  RawClient client = Connect();
  client.Send("HEAD " + pack_path_ + " HTTP/1.1\r\nHost: a\r\n\r\n");
  const auto head = client.Receive(true);
  ASSERT_TRUE(head.has_value());
  EXPECT_EQ(head->status, 200);
  EXPECT_EQ(head->field("Content-Length"), std::to_string(pack_.size()));
  EXPECT_EQ(client.Get("/boot/vmlinuz")->body, "kernel");
}

TEST_F(ServerTest, KnownTagIsNotSentAgainUntilTheFileIsReplaced) {
  StartServer();
  RawClient client = Connect();
  const std::string tag = client.Get("/images/deb/latest")->field("ETag");
  const std::string field = "If-None-Match: " + tag + "\r\n";
  const std::string if_range = "Range: bytes=0-2\r\nIf-Range: " + tag + "\r\n";
  EXPECT_EQ(client.Get("/images/deb/latest", field)->status, 304);
  EXPECT_EQ(client.Get("/images/deb/latest", if_range)->body, "poi");
  WriteFile("repo/images/deb/.latest", "Pointer");
  std::filesystem::rename(root_ / "repo/images/deb/.latest",
                          root_ / "repo/images/deb/latest");
  EXPECT_EQ(client.Get("/images/deb/latest", field)->body, "Pointer");
  EXPECT_EQ(client.Get("/images/deb/latest", if_range)->body, "Pointer");
}

TEST_F(ServerTest, NothingButPublicFilesIsServed) {
  StartServer();
  RawClient client = Connect();
  for (const char* path :
       {"/key.pem", "/../secret", "/boot/../key.pem", "/boot/../../secret",
        "/boot/%2e%2e/key.pem", "/boot/..%2fkey.pem", "/boot/.new", "/boot",
        "/boot/", "/images/deb", "/images/deb/", "/images/deb/1.0", "/",
        "//boot/vmlinuz", "/boot/vmlinuz/", "/boot/vmlinuz/x",
        "/boot/vmlinuz%00"}) {
    const auto reply = client.Get(path);
    ASSERT_TRUE(reply.has_value()) << path;
    EXPECT_EQ(reply->status, 404) << path;
    EXPECT_EQ(reply->body.find("secret"), std::string::npos) << path;
  }
  EXPECT_EQ(client.Get("/boot/%76mlinuz?x=1")->body, "kernel");
}

TEST_F(ServerTest, LinksAreFollowedOnlyInsideTheirFolder) {
  StartServer();
  const auto link = [&](const std::string& to, const std::string& name) {
    std::filesystem::create_symlink(to, root_ / "repo/boot" / name);
  };
  link("vmlinuz", "inside");
  link("../key.pem", "to-key");
  link("../../secret", "out");
  link(root_ / "secret", "absolute");
  link("../../", "folder");
  link("/proc/self/root", "magic");
  link("loop", "loop");
  RawClient client = Connect();
  EXPECT_EQ(client.Get("/boot/inside")->body, "kernel");
  for (const char* path :
       {"/boot/to-key", "/boot/out", "/boot/absolute", "/boot/folder/secret",
        "/boot/magic/etc/passwd", "/boot/loop"}) {
    const auto reply = client.Get(path);
    ASSERT_TRUE(reply.has_value()) << path;
    EXPECT_EQ(reply->status, 404) << path;
  }
}

TEST_F(ServerTest, PipeInTheRepositoryDoesNotHangTheServer) {
  StartServer();
  ASSERT_EQ(::mkfifo((root_ / "repo/boot/pipe").c_str(), 0600), 0);
  RawClient client = Connect();
  EXPECT_EQ(client.Get("/boot/pipe")->status, 404);
}

TEST_F(ServerTest, OtherMethodsAndBodiesAreRefused) {
  StartServer();
  const auto ask = [&](const std::string& text) {
    RawClient client = Connect();
    client.Send(text);
    const auto reply = client.Receive();
    EXPECT_TRUE(reply.has_value()) << text;
    client.FinishSending();
    EXPECT_TRUE(client.IsAtEnd()) << text;
    return *reply;
  };
  const Reply post = ask(
      "POST /boot/vmlinuz HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
  EXPECT_EQ(post.status, 405);
  EXPECT_EQ(post.field("Allow"), "GET, HEAD");
  EXPECT_EQ(ask("GET /boot/vmlinuz HTTP/1.1\r\nHost: a\r\n"
                "Content-Length: 3\r\n\r\nabc")
                .status,
            413);
  EXPECT_EQ(ask("GET /boot/vmlinuz HTTP/1.1\r\nHost: a\r\n"
                "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
                .status,
            400);
  EXPECT_EQ(ask("\x16\x03\x01 a TLS greeting").status, 400);
}

TEST_F(ServerTest, OldClientIsServedAndTheConnectionClosed) {
  StartServer();
  RawClient client = Connect();
  client.Send("GET /boot/vmlinuz HTTP/1.0\r\n\r\n");
  const auto reply = client.Receive();
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(reply->body, "kernel");
  EXPECT_EQ(reply->field("Connection"), "close");
  EXPECT_TRUE(client.IsAtEnd());
}

TEST_F(ServerTest, AccessLogSumsToWhatWasSent) {
  StartServer();
  size_t received = 0;
  {
    RawClient client = Connect();
    client.Send("GET " + pack_path_ +
                " HTTP/1.1\r\nHost: a\r\nRange: bytes=5-9\r\n\r\n"
                "GET /boot/none HTTP/1.1\r\nHost: a\r\n\r\n"
                "HEAD /boot/vmlinuz HTTP/1.1\r\nHost: a\r\n"
                "Connection: close\r\n\r\n");
    received = client.ReceiveBytes(1 << 20).size();
  }
  server_->Stop();
  log_.reset();
  std::istringstream lines(log());
  size_t sum = 0;
  std::ostringstream seen;
  std::string time, who, method, path, range, status, bytes, ms, end;
  while (lines >> time >> who >> method >> path >> range >> status >> bytes >>
         ms >> end) {
    sum += std::stoull(bytes);
    seen << method << ' ' << path << ' ' << range << ' ' << status << ' ' << end
         << '\n';
  }
  EXPECT_EQ(sum, received);
  EXPECT_EQ(seen.str(), "GET " + pack_path_ +
                            " 5-9 206 done\nGET /boot/none - 404 done\n"
                            "HEAD /boot/vmlinuz - 200 done\n");
}

TEST_F(ServerTest, AccessLogIsOpenedAnewAfterItWasRenamed) {
  StartServer();
  RawClient client = Connect();
  client.Get("/boot/vmlinuz");
  ASSERT_TRUE(LogSays("done"));
  std::filesystem::rename(root_ / "log", root_ / "log.1");
  ASSERT_TRUE(log_->Reopen().has_value());
  client.Get("/boot/nothing");
  EXPECT_TRUE(LogSays("done"));
  EXPECT_NE(log().find("/boot/nothing"), std::string::npos);
}

TEST_F(ServerTest, PortInUseIsSaidWithTheNextStep) {
  StartServer();
  const auto second =
      Server::Start(server_->address(), ServerConfig{}, *store_, *log_);
  ASSERT_FALSE(second.has_value());
  EXPECT_NE(second.error().message.find(server_->address()), std::string::npos);
  EXPECT_NE(second.error().message.find("--listen"), std::string::npos);
}

}  // namespace
}  // namespace bootstream
