#include "tests/imgserver/server_fixture.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <iterator>
#include <thread>

namespace bootstream {
namespace {

constexpr auto kPatience = std::chrono::minutes(1);

}  // namespace

RawClient::RawClient(uint16_t port)
    : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const timeval patience{60, 0};
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::connect(fd_.get(), reinterpret_cast<sockaddr*>(&address),
                      sizeof address),
            0);
}

void RawClient::Send(const std::string& text) {
  size_t sent = 0;
  while (sent < text.size()) {
    const ssize_t n =
        ::send(fd_.get(), text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) return;  // the server may have had enough
    sent += static_cast<size_t>(n);
  }
}

bool RawClient::Fill() {
  std::string more(1 << 16, '\0');
  const ssize_t n = ::recv(fd_.get(), more.data(), more.size(), 0);
  EXPECT_FALSE(n < 0 && errno == EAGAIN) << "the server says nothing";
  if (n <= 0) return false;
  unread_.append(more, 0, static_cast<size_t>(n));
  return true;
}

std::string RawClient::ReceiveBytes(size_t size) {
  while (unread_.size() < size && Fill()) {
  }
  std::string out = unread_.substr(0, size);
  unread_.erase(0, size);
  return out;
}

std::optional<Reply> RawClient::Receive(bool is_head) {
  size_t end = 0;
  while ((end = unread_.find("\r\n\r\n")) == std::string::npos) {
    if (!Fill()) return std::nullopt;
  }
  const std::string head = ReceiveBytes(end + 4);
  Reply reply;
  EXPECT_TRUE(head.starts_with("HTTP/1.1 ")) << head;
  reply.status = std::atoi(head.c_str() + 9);
  for (size_t at = head.find("\r\n") + 2; at + 2 < head.size();) {
    const size_t stop = head.find("\r\n", at);
    const size_t colon = head.find(": ", at);
    reply.fields[head.substr(at, colon - at)] =
        head.substr(colon + 2, stop - colon - 2);
    at = stop + 2;
  }
  const std::string length = reply.field("Content-Length");
  if (!is_head && !length.empty()) {
    reply.body = ReceiveBytes(std::stoull(length));
  }
  return reply;
}

std::optional<Reply> RawClient::Get(const std::string& path,
                                    const std::string& fields) {
  Send("GET " + path + " HTTP/1.1\r\nHost: test\r\n" + fields + "\r\n");
  return Receive();
}

void RawClient::FinishSending() { ::shutdown(fd_.get(), SHUT_WR); }

void RawClient::Reset() {
  const linger at_once{1, 0};
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  fd_.reset();
}

bool Eventually(const std::function<bool()>& condition) {
  const auto give_up = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > give_up) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

ServerTest::ServerTest() {
  ::signal(SIGPIPE, SIG_IGN);
  std::string name = testing::TempDir() + "imgserver-XXXXXX";
  root_ = ::mkdtemp(name.data());
  for (int i = 0; i < 30000; ++i) pack_ += std::to_string(i) + "\n";
  WriteFile("repo" + pack_path_, pack_);
  WriteFile("repo/images/deb/latest", "pointer");
  WriteFile("repo/images/deb/1.0/manifest", "manifest");
  WriteFile("repo/boot/vmlinuz", "kernel");
  WriteFile("repo/key.pem", "secret");
  WriteFile("repo/boot/.new", "secret");
  WriteFile("secret", "secret");
}

ServerTest::~ServerTest() {
  server_.reset();
  log_.reset();
  std::filesystem::remove_all(root_);
}

void ServerTest::StartServer(const ServerConfig& config) {
  auto store = ImageStore::Open(root_ / "repo");
  ASSERT_TRUE(store.has_value());
  store_ = std::make_unique<ImageStore>(*std::move(store));
  auto log = AccessLog::Open(root_ / "log");
  ASSERT_TRUE(log.has_value());
  log_ = *std::move(log);
  auto server = Server::Start("127.0.0.1:0", config, *store_, *log_);
  ASSERT_TRUE(server.has_value()) << server.error().message;
  server_ = *std::move(server);
}

void ServerTest::WriteFile(const std::string& path, const std::string& text) {
  std::filesystem::create_directories((root_ / path).parent_path());
  std::ofstream(root_ / path, std::ios::binary) << text;
}

void ServerTest::WriteBigFile(const std::string& path) {
  WriteFile(path, "");
  std::filesystem::resize_file(root_ / path, kBigBytes);
}

std::string ServerTest::log() const {
  std::ifstream in(root_ / "log");
  return {std::istreambuf_iterator<char>(in), {}};
}

bool ServerTest::LogSays(const std::string& words) {
  return Eventually(
      [&] { return log().find(words + "\n") != std::string::npos; });
}

}  // namespace bootstream
