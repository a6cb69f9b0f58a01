// A whole NBD session over a socket: handshake or, as the kernel's client has
// it, requests from the start.  The first byte says which, and whether the
// export is read-only.

#include "blockmap/nbd/nbd_session.h"

#include <sys/socket.h>

#include "blockmap/base/coding.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/memory_service.h"

namespace bootstream {
namespace {

constexpr uint64_t kDeviceBytes = 64 << 10;
// What a socket takes without anybody reading it.
constexpr size_t kInputBytesMax = 64 << 10;

// Read answers until the session hangs up.
Task<Status> Drain(IoLoop& loop, int fd) {
  static std::vector<std::byte> buffer(64 << 10);
  for (;;) {
    const int n = co_await loop.Recv(fd, buffer);
    if (n == 0) co_return OkStatus();
    if (n < 0) co_return ErrnoError(-n, "recv");
  }
}

Task<Status> Serve(NbdSession& session, NbdSession::Start start) {
  (void)co_await session.Run(start);
  co_return OkStatus();
}

}  // namespace

FUZZ_TARGET(nbd_session) {
  static const std::unique_ptr<IoLoop> loop = std::move(*IoLoop::Create(64));
  if (input.empty() || input.size() > kInputBytesMax) return;
  MemoryService service(kDeviceBytes);
  const auto mode = static_cast<uint8_t>(input[0]);
  NbdOptions options;
  options.export_name = "disk";
  options.read_only = (mode & 2) != 0;
  const auto talk = input.subspan(1);
  int pair[2];
  Require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0,
          "a pair of sockets");
  const UniqueFd client(pair[1]);
  NbdSession session(*loop, service, options, UniqueFd(pair[0]));
  Require(talk.empty() ||
              ::send(client.get(), talk.data(), talk.size(), MSG_NOSIGNAL) ==
                  static_cast<ssize_t>(talk.size()),
          "the socket takes the input");
  ::shutdown(client.get(), SHUT_WR);
  std::vector<Task<Status>> both;
  both.push_back(Serve(session, (mode & 1) != 0
                                    ? NbdSession::Start::kHandshake
                                    : NbdSession::Start::kTransmission));
  both.push_back(Drain(*loop, client.get()));
  (void)loop->RunUntilDone(JoinAll(std::move(both)));
}

}  // namespace bootstream
