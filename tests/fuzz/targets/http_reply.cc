// What a server answers to a request for frames of a pack, through libcurl.
// The input is what comes out of the socket; after a redirect the connection
// that follows gets what lies behind the first NUL.

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>

#include "blockmap/base/unique_fd.h"
#include "blockmap/image/http_transfer.h"
#include "tests/fuzz/fuzz.h"

namespace bootstream {
namespace {

constexpr size_t kInputBytesMax = 64 << 10;

// The far end: each new connection gets the next part of the input.
struct Server {
  int listener = -1;  // not owned
  std::string_view left;
  std::vector<UniqueFd> ends;
};

// A socket whose name is no file; curl connects to it whatever the URL says.
std::string ListenAt(const UniqueFd& listener) {
  const std::string name = "bootstream-fuzz-" + std::to_string(::getpid());
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  name.copy(address.sun_path + 1, sizeof address.sun_path - 2);
  const auto size =
      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  Require(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size) ==
                  0 &&
              ::listen(listener.get(), 8) == 0,
          "a socket listens");
  return name;
}

// Curl has connected and is about to ask.
int Answer(void* user, char*, char*, int, int) {
  auto& server = *static_cast<Server*>(user);
  server.ends.emplace_back(
      ::accept4(server.listener, nullptr, nullptr, SOCK_CLOEXEC));
  const int end = server.ends.back().get();
  const size_t nul = std::min(server.left.find('\0'), server.left.size());
  const std::string_view reply = server.left.substr(0, nul);
  server.left.remove_prefix(std::min(nul + 1, server.left.size()));
  if (!reply.empty()) {
    (void)::send(end, reply.data(), reply.size(), MSG_NOSIGNAL);
  }
  ::shutdown(end, SHUT_WR);
  return CURL_PREREQFUNC_OK;
}

WantedFrame Frame(uint64_t offset, uint32_t size) {
  WantedFrame frame;
  frame.key.offset = offset;
  frame.key.packed_bytes = size;
  frame.key.content_bytes = kChunkBytesMin;
  return frame;
}

}  // namespace

FUZZ_TARGET(http_reply) {
  if (input.size() > kInputBytesMax) return;
  static const CurlSettings settings;
  static const UniqueFd listener(
      ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  static const std::string name = ListenAt(listener);
  Server server{listener.get(), AsText(input), {}};
  CurlHandle handle = MakeCurlHandle({});
  CURL* const easy = handle.get();
  curl_easy_setopt(easy, CURLOPT_ABSTRACT_UNIX_SOCKET, name.c_str());
  curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, &Answer);
  curl_easy_setopt(easy, CURLOPT_PREREQDATA, &server);
  curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 1000L);
  HttpTransfer::Request request;
  request.url = "http://127.0.0.1:9/packs/ab";
  request.pack_bytes = 60;
  // Bytes 10 to 19 and 22 to 51: a gap between them.
  request.batch.frames.push_back(Frame(10, 10));
  request.batch.frames.push_back(Frame(22, 30));
  size_t arrived = 0;
  HttpTransfer transfer(
      std::move(handle), std::move(request), Executor::Duration(0),
      [&arrived](WantedFrame frame, std::vector<std::byte> bytes) {
        Require(bytes.size() == frame.key.packed_bytes, "a frame comes whole");
        Require(frame.key.offset == (arrived == 0 ? 10 : 22),
                "frames come in their order");
        ++arrived;
      });
  const CURLcode code = curl_easy_perform(easy);
  const HttpTransfer::Verdict verdict = transfer.Judge(code, settings);
  const auto outcome = verdict.outcome;
  const std::string& why = verdict.why;
  Require((outcome == HttpTransfer::Outcome::kDone) == (arrived == 2),
          "done means that every frame has come");
  Require(outcome == HttpTransfer::Outcome::kDone || !why.empty(),
          "what failed says why");
  Require(std::ranges::all_of(why, [](char c) { return c >= ' ' && c < 0x7f; }),
          "what is said for people can be printed");
  Require(transfer.TakeRest().size() == 2 - arrived, "the rest is known");
}

}  // namespace bootstream
