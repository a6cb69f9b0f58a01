#include "tests/support/test_http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace bootstream {
namespace {

bool SendAll(int fd, const void* data, size_t size) {
  const auto* at = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t put = ::send(fd, at, size, MSG_NOSIGNAL);
    if (put <= 0) return false;
    at += put;
    size -= static_cast<size_t>(put);
  }
  return true;
}

// Until the other side, or Stop, ends it.
bool WaitForTheEnd(int fd) {
  char byte = 0;
  while (::recv(fd, &byte, 1, 0) > 0) {
  }
  return false;
}

// The same, with a byte now and then.
bool Trickle(int fd) {
  while (SendAll(fd, "x", 1)) {
    pollfd closed{fd, POLLIN, 0};
    if (::poll(&closed, 1, 5) != 0) return false;
  }
  return false;
}

}  // namespace

TestHttpServer::TestHttpServer() {
  SetFault(Fault::kNone);
  Start();
}

TestHttpServer::~TestHttpServer() { Stop(); }

void TestHttpServer::Put(const std::string& path,
                         std::vector<std::byte> bytes) {
  const std::lock_guard lock(mutex_);
  files_[path] = std::move(bytes);
}

std::vector<std::byte> TestHttpServer::Get(const std::string& path) const {
  const std::lock_guard lock(mutex_);
  const auto found = files_.find(path);
  return found == files_.end() ? std::vector<std::byte>() : found->second;
}

void TestHttpServer::SetFault(std::function<Fault(const Request&)> fault) {
  const std::lock_guard lock(mutex_);
  fault_ = std::move(fault);
}

std::string TestHttpServer::url() const {
  return "http://127.0.0.1:" + std::to_string(port_) + "/";
}

std::vector<TestHttpServer::Request> TestHttpServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

void TestHttpServer::WaitForRequests(size_t count) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return requests_.size() >= count; });
}

void TestHttpServer::Start() {
  listener_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  ::setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port_);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listener_.get(), generic, size) != 0 ||
      ::listen(listener_.get(), 64) != 0 ||
      ::getsockname(listener_.get(), generic, &size) != 0) {
    std::perror("test server");
    std::abort();
  }
  port_ = ntohs(address.sin_port);
  accepting_ = std::thread([this, fd = listener_.get()] { AcceptClients(fd); });
}

void TestHttpServer::Stop() {
  if (!listener_) return;
  ::shutdown(listener_.get(), SHUT_RDWR);
  accepting_.join();
  listener_.reset();
  std::vector<std::thread> serving;
  {
    const std::lock_guard lock(mutex_);
    for (const int fd : connections_) ::shutdown(fd, SHUT_RDWR);
    serving.swap(serving_);
  }
  for (auto& thread : serving) thread.join();
}

void TestHttpServer::AcceptClients(int listener) {
  while (true) {
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return;
    const std::lock_guard lock(mutex_);
    connections_.insert(fd);
    serving_.emplace_back([this, fd] { Serve(fd); });
  }
}

void TestHttpServer::Serve(int fd) {
  std::string pending;
  Request request;
  while (ReadRequest(fd, pending, request)) {
    std::function<Fault(const Request&)> fault;
    {
      const std::lock_guard lock(mutex_);
      request.number = requests_.size();
      requests_.push_back(request);
      fault = fault_;
    }
    changed_.notify_all();
    if (!Answer(fd, request, fault(request))) break;
  }
  const std::lock_guard lock(mutex_);
  connections_.erase(fd);
  ::close(fd);
}

bool TestHttpServer::ReadRequest(int fd, std::string& pending,
                                 Request& request) {
  size_t end = 0;
  while ((end = pending.find("\r\n\r\n")) == std::string::npos) {
    char buffer[4096];
    const ssize_t got = ::recv(fd, buffer, sizeof buffer, 0);
    if (got <= 0) return false;
    pending.append(buffer, static_cast<size_t>(got));
  }
  const std::string head = pending.substr(0, end + 2);
  pending.erase(0, end + 4);
  request = {};
  const size_t slash = head.find('/');
  request.path = head.substr(slash + 1, head.find(' ', slash) - slash - 1);
  request.no_cache =
      head.find("Cache-Control: no-cache\r\n") != std::string::npos;
  const size_t range = head.find("Range: bytes=");
  if (range != std::string::npos) {
    unsigned long long first = 0;
    unsigned long long last = 0;
    std::sscanf(head.c_str() + range, "Range: bytes=%llu-%llu", &first, &last);
    request.begin = first;
    request.end = last + 1;
  }
  return true;
}

void TestHttpServer::SetRedirect(std::string base) {
  const std::lock_guard lock(mutex_);
  redirect_ = std::move(base);
}

bool TestHttpServer::Answer(int fd, const Request& request, Fault fault) {
  const std::vector<std::byte> file = FileFor(request, fault);
  switch (fault) {
    case Fault::kHangUp:
    case Fault::kSilent:
    case Fault::kNotFound:
    case Fault::kTooMany:
    case Fault::kError:
    case Fault::kUnavailable:
    case Fault::kEndlessHeaders:
    case Fault::kRedirect:
      return AnswerWithout(fd, request, fault);
    default:
      return AnswerWith(fd, request, fault, file);
  }
}

// What lies at the request's path; a fault instead if there is nothing.
std::vector<std::byte> TestHttpServer::FileFor(const Request& request,
                                               Fault& fault) {
  const std::lock_guard lock(mutex_);
  const auto found = files_.find(request.path);
  if (found == files_.end()) {
    if (fault != Fault::kRedirect) fault = Fault::kNotFound;
    return {};
  }
  std::vector<std::byte> file = found->second;
  if (fault == Fault::kOtherFile) std::reverse(file.begin(), file.end());
  return file;
}

// Answers that have none of the file in them.
bool TestHttpServer::AnswerWithout(int fd, const Request& request,
                                   Fault fault) {
  if (fault == Fault::kHangUp) return false;
  if (fault == Fault::kSilent) return WaitForTheEnd(fd);
  std::string head = "HTTP/1.1 ";
  if (fault == Fault::kEndlessHeaders) {
    head += "206 Partial Content\r\n";
    const std::string line = "X-More: " + std::string(1000, 'x') + "\r\n";
    bool open = SendAll(fd, head.data(), head.size());
    while (open) open = SendAll(fd, line.data(), line.size());
    return false;
  }
  if (fault == Fault::kNotFound) head += "404 Not Found\r\n";
  if (fault == Fault::kTooMany) head += "429 Slow\r\nRetry-After: 1\r\n";
  if (fault == Fault::kError) head += "500 Error\r\n";
  if (fault == Fault::kUnavailable) head += "503 Busy\r\n";
  if (fault == Fault::kRedirect) {
    const std::lock_guard lock(mutex_);
    head +=
        "302 Found\r\nLocation: " + (redirect_.empty() ? url() : redirect_) +
        request.path + "\r\n";
  }
  head += "Content-Length: 6\r\n\r\nsorry\n";
  return SendAll(fd, head.data(), head.size());
}

bool TestHttpServer::AnswerWith(int fd, const Request& request, Fault fault,
                                const std::vector<std::byte>& file) {
  const bool ranged = request.end > 0 && fault != Fault::kWholeFile &&
                      fault != Fault::kWrongWhole;
  uint64_t begin = ranged ? request.begin : 0;
  uint64_t end =
      ranged ? std::min<uint64_t>(request.end, file.size()) : file.size();
  if (fault == Fault::kWrongRange) {
    ++begin;
    if (end < file.size()) ++end;
  }
  if (fault == Fault::kWrongWhole) --end;
  std::vector<std::byte> body(file.begin() + begin, file.begin() + end);
  if (fault == Fault::kShiftedBytes) {
    std::rotate(body.begin(), body.begin() + 1, body.end());
  }
  if (fault == Fault::kFlippedBit) body[body.size() / 2] ^= std::byte{1};
  std::string head =
      ranged ? "HTTP/1.1 206 Partial Content\r\n" : "HTTP/1.1 200 OK\r\n";
  if (ranged && fault != Fault::kNoRange) {
    head += "Content-Range: bytes " + std::to_string(begin) + "-" +
            std::to_string(end - 1) + "/" + std::to_string(file.size()) +
            "\r\n";
  }
  if (fault == Fault::kFolded) {
    head.insert(head.find("\r\n") + 2, " folded: x\r\n");
  }
  if (fault == Fault::kEncoded) head += "Content-Encoding: gzip\r\n";
  if (fault == Fault::kLongBody) {
    head += "Connection: close\r\n\r\n";
    body.insert(body.end(), 1 << 20, std::byte{9});
  } else {
    const size_t less = fault == Fault::kWrongLength ? 1 : 0;
    head += "Content-Length: " + std::to_string(body.size() - less) + "\r\n";
    if (less > 0) head += "Connection: close\r\n";
    head += "\r\n";
  }
  const bool half = fault == Fault::kShortBody || fault == Fault::kStall ||
                    fault == Fault::kTrickle || fault == Fault::kReset;
  const size_t size = half ? body.size() / 2 : body.size();
  if (!SendAll(fd, head.data(), head.size()) ||
      !SendAll(fd, body.data(), size)) {
    return false;
  }
  if (fault == Fault::kStall) return WaitForTheEnd(fd);
  if (fault == Fault::kTrickle) return Trickle(fd);
  if (fault == Fault::kReset) {
    const linger now{1, 0};
    ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
  return !half && fault != Fault::kLongBody && fault != Fault::kWrongLength;
}

}  // namespace bootstream
