#include "tests/fuzz/http_far_end.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <string>

#include "tests/fuzz/fuzz.h"

namespace bootstream {
namespace {

// A socket whose name is no file.
struct Listener {
  Listener() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    name.copy(address.sun_path + 1, sizeof address.sun_path - 2);
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) +
                                             1 + name.size());
    Require(
        ::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) == 0 &&
            ::listen(fd.get(), 8) == 0,
        "a socket listens");
  }
  UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  std::string name = "bootstream-fuzz-" + std::to_string(::getpid());
};

const Listener& TheListener() {
  static const Listener listener;
  return listener;
}

}  // namespace

void HttpFarEnd::Attach(CURL* easy) {
  curl_easy_setopt(easy, CURLOPT_ABSTRACT_UNIX_SOCKET,
                   TheListener().name.c_str());
  curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, &Answer);
  curl_easy_setopt(easy, CURLOPT_PREREQDATA, this);
  curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
}

// Curl has connected and is about to ask.
int HttpFarEnd::Answer(void* user, char*, char*, int, int) {
  auto& self = *static_cast<HttpFarEnd*>(user);
  self.ends_.emplace_back(
      ::accept4(TheListener().fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
  const int end = self.ends_.back().get();
  const size_t nul = std::min(self.left_.find('\0'), self.left_.size());
  const std::string_view reply = self.left_.substr(0, nul);
  self.left_.remove_prefix(std::min(nul + 1, self.left_.size()));
  if (!reply.empty()) {
    (void)::send(end, reply.data(), reply.size(), MSG_NOSIGNAL);
  }
  ::shutdown(end, SHUT_WR);
  return CURL_PREREQFUNC_OK;
}

}  // namespace bootstream
