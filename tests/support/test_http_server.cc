#include "tests/support/test_http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

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

bool TestHttpServer::Answer(int fd, const Request& request, Fault fault) {
  std::vector<std::byte> file;
  {
    const std::lock_guard lock(mutex_);
    const auto found = files_.find(request.path);
    if (found == files_.end()) {
      if (fault == Fault::kNone) fault = Fault::kNotFound;
    } else {
      file = found->second;
    }
  }
  const auto hang = [fd] {  // until the other side, or Stop, ends it
    char byte = 0;
    while (::recv(fd, &byte, 1, 0) > 0) {
    }
    return false;
  };
  if (fault == Fault::kHangUp) return false;
  if (fault == Fault::kSilent) return hang();
  if (fault == Fault::kNotFound || fault == Fault::kUnavailable) {
    const std::string reply =
        std::string("HTTP/1.1 ") +
        (fault == Fault::kNotFound ? "404 Not Found" : "503 Busy") +
        "\r\nContent-Length: 6\r\n\r\nsorry\n";
    return SendAll(fd, reply.data(), reply.size());
  }
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
  std::vector<std::byte> body(file.begin() + static_cast<long>(begin),
                              file.begin() + static_cast<long>(end));
  if (fault == Fault::kFlippedBit) body[body.size() / 2] ^= std::byte{1};
  std::string head =
      ranged ? "HTTP/1.1 206 Partial Content\r\n" : "HTTP/1.1 200 OK\r\n";
  if (ranged) {
    head += "Content-Range: bytes " + std::to_string(begin) + "-" +
            std::to_string(end - 1) + "/" + std::to_string(file.size()) +
            "\r\n";
  }
  if (fault == Fault::kEncoded) head += "Content-Encoding: gzip\r\n";
  if (fault == Fault::kLongBody) {
    head += "Connection: close\r\n\r\n";
    body.insert(body.end(), 1 << 20, std::byte{9});
  } else {
    head += "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n";
  }
  const bool half = fault == Fault::kShortBody || fault == Fault::kStall;
  const size_t size = half ? body.size() / 2 : body.size();
  if (!SendAll(fd, head.data(), head.size()) ||
      !SendAll(fd, body.data(), size)) {
    return false;
  }
  if (fault == Fault::kStall) return hang();
  return !half && fault != Fault::kLongBody;
}

}  // namespace bootstream
