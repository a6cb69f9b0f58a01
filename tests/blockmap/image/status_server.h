#ifndef TESTS_BLOCKMAP_IMAGE_STATUS_SERVER_H_
#define TESTS_BLOCKMAP_IMAGE_STATUS_SERVER_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "blockmap/base/unique_fd.h"

namespace bootstream {

// An HTTP server on 127.0.0.1 that answers every range request as it should be
// answered, Content-Range and bytes, but for the status: one of its own.  One
// request for each connection, one connection at a time.
class StatusServer {
 public:
  // `says_length`: with a Content-Length, or the end of the connection is that
  // of the body.
  StatusServer(std::string status, bool says_length,
               std::vector<std::byte> file)
      : status_(std::move(status)),
        says_length_(says_length),
        file_(std::move(file)) {
    Listen();
    serving_ = std::thread([this] { Serve(); });
  }
  ~StatusServer() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    serving_.join();
  }

  std::string url() const {
    return "http://127.0.0.1:" + std::to_string(port_) + "/";
  }

 private:
  void Listen() {
    listener_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (::bind(listener_.get(), generic, size) != 0 ||
        ::listen(listener_.get(), 64) != 0 ||
        ::getsockname(listener_.get(), generic, &size) != 0) {
      std::perror("status server");
      std::abort();
    }
    port_ = ntohs(address.sin_port);
  }

  void Serve() {
    while (true) {
      const UniqueFd client(
          ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!client) return;
      const std::string answer = AnswerTo(ReadHead(client.get()));
      ::send(client.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
    }
  }

  static std::string ReadHead(int fd) {
    std::string head;
    char byte = 0;
    while (!head.ends_with("\r\n\r\n") && ::recv(fd, &byte, 1, 0) == 1) {
      head.push_back(byte);
    }
    return head;
  }

  std::string AnswerTo(const std::string& head) const {
    unsigned long long first = 0;
    unsigned long long last = 0;
    const size_t range = head.find("Range: bytes=");
    if (range == std::string::npos ||
        std::sscanf(head.c_str() + range, "Range: bytes=%llu-%llu", &first,
                    &last) != 2 ||
        first > last || last >= file_.size()) {
      return "";
    }
    const size_t size = last - first + 1;
    std::string answer = "HTTP/1.1 " + status_ +
                         "\r\nConnection: close\r\nContent-Range: bytes " +
                         std::to_string(first) + "-" + std::to_string(last) +
                         "/" + std::to_string(file_.size()) + "\r\n";
    if (says_length_) {
      answer += "Content-Length: " + std::to_string(size) + "\r\n";
    }
    answer += "\r\n";
    answer.append(reinterpret_cast<const char*>(file_.data()) + first, size);
    return answer;
  }

  const std::string status_;
  const bool says_length_;
  const std::vector<std::byte> file_;
  uint16_t port_ = 0;
  UniqueFd listener_;
  std::thread serving_;
};

}  // namespace bootstream

#endif  // TESTS_BLOCKMAP_IMAGE_STATUS_SERVER_H_
