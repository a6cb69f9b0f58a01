#include "blockmap/nbd/nbd_server.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

namespace bootstream {
namespace {

// Room for a large reply, so that one send call is enough for it.
constexpr int kSendBufferBytes = 1 << 20;

Result<sockaddr_un> UnixAddress(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return Error{ErrorCode::kInvalid,
                 "socket path '" + path + "' is empty or longer than " +
                     std::to_string(sizeof address.sun_path - 1) + " bytes"};
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// What a connection to the socket at an address told.
enum class Owner { kNobody, kDying, kServing };

// How long a server may take to greet, and a dead one's kernel to let go.
constexpr int kPatienceMs = 5000;

// A server greets each client.  One that was killed may still own the socket
// for a moment, until its accept under way is gone: it takes us, and hangs up.
Result<Owner> AskOwner(const sockaddr_un& address) {
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!probe) return ErrnoError(errno, "socket");
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address),
                sizeof address) != 0) {
    return errno == ECONNREFUSED ? Owner::kNobody : Owner::kServing;
  }
  pollfd greeting{probe.get(), POLLIN, 0};
  while (::poll(&greeting, 1, kPatienceMs) < 0) {
    if (errno != EINTR) return ErrnoError(errno, "poll");
  }
  char byte = 0;
  const bool hung_up =
      greeting.revents != 0 && ::recv(probe.get(), &byte, 1, 0) <= 0;
  return hung_up ? Owner::kDying : Owner::kServing;
}

// Remove the socket at `path` if nobody listens there any more.
Status RemoveStale(const std::string& path, const sockaddr_un& address) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) {
    return errno == ENOENT ? OkStatus() : ErrnoError(errno, path);
  }
  if (!S_ISSOCK(info.st_mode)) {
    return Error{ErrorCode::kInvalid, path + " is there and is no socket"};
  }
  auto owner = AskOwner(address);
  const auto patience =
      std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs);
  while (owner && *owner == Owner::kDying &&
         std::chrono::steady_clock::now() < patience) {
    owner = AskOwner(address);
  }
  if (!owner) return owner.error();
  if (*owner != Owner::kNobody) {
    return Error{ErrorCode::kUnavailable,
                 path + " is served by another process; stop that first"};
  }
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return ErrnoError(errno, "unlink " + path);
  }
  return OkStatus();
}

}  // namespace

Result<UniqueFd> ListenForNbd(const std::string& path) {
  const auto address = UnixAddress(path);
  if (!address) return address.error();
  if (auto s = RemoveStale(path, *address); !s) return s.error();
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return ErrnoError(errno, "socket");
  // Before bind: the node is born with these permissions (unix(7)).
  if (::fchmod(fd.get(), 0600) != 0) return ErrnoError(errno, "fchmod socket");
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&*address),
             sizeof *address) != 0) {
    return ErrnoError(errno, "bind " + path);
  }
  if (::listen(fd.get(), 128) != 0) return ErrnoError(errno, "listen " + path);
  return fd;
}

Result<std::unique_ptr<NbdServer>> NbdServer::Listen(IoLoop& loop,
                                                     BlockService& service,
                                                     const std::string& path,
                                                     NbdOptions options) {
  auto listener = ListenForNbd(path);
  if (!listener) return listener.error();
  auto server = Adopt(loop, service, std::move(*listener), std::move(options));
  if (server) (*server)->path_ = path;
  return server;
}

Result<std::unique_ptr<NbdServer>> NbdServer::Adopt(IoLoop& loop,
                                                    BlockService& service,
                                                    UniqueFd listener,
                                                    NbdOptions options) {
  int listening = 0;
  socklen_t size = sizeof listening;
  if (::getsockopt(listener.get(), SOL_SOCKET, SO_ACCEPTCONN, &listening,
                   &size) != 0) {
    return ErrnoError(errno, "adopt an NBD listener");
  }
  if (listening == 0) {
    return Error{ErrorCode::kInvalid,
                 "the adopted descriptor is no listening socket"};
  }
  std::unique_ptr<NbdServer> server(
      new NbdServer(loop, service, std::move(listener), std::move(options)));
  Spawn(server->AcceptClients());
  return server;
}

NbdServer::~NbdServer() {
  if (!path_.empty()) ::unlink(path_.c_str());
}

Task<void> NbdServer::AcceptClients() {
  while (!stopping_) {
    const int fd = co_await loop_.Accept(listener_.get());
    if (stopping_ || fd == -ECANCELED) {
      const UniqueFd late(fd);
      break;
    }
    if (fd == -EINTR || fd == -EAGAIN || fd == -ECONNABORTED) continue;
    if (fd < 0) {
      // Most likely out of descriptors: some will be given back.
      Log(ErrnoError(-fd, "accept").message);
      co_await loop_.Sleep(std::chrono::milliseconds(100));
      continue;
    }
    UniqueFd socket(fd);
    if (sessions_.size() >= kClientsMax) {
      Log("nbd: a client was turned away: " + std::to_string(kClientsMax) +
          " are connected");
      continue;
    }
    ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kSendBufferBytes,
                 sizeof kSendBufferBytes);
    Spawn(RunSession(std::move(socket)));
  }
  accept_ended_.Set();
}

Task<void> NbdServer::RunSession(UniqueFd socket) {
  sessions_.push_back(std::make_unique<NbdSession>(loop_, service_, options_,
                                                   std::move(socket)));
  NbdSession* session = sessions_.back().get();
  const Status status = co_await session->Run(NbdSession::Start::kHandshake);
  if (!status && !stopping_) Log(status.error().message);
  std::erase_if(sessions_, [&](const auto& s) { return s.get() == session; });
  if (stopping_ && sessions_.empty()) sessions_ended_.Set();
}

Task<Status> NbdServer::Stop() {
  stopping_ = true;
  co_await loop_.Do([this](io_uring_sqe* sqe) {
    io_uring_prep_cancel_fd(sqe, listener_.get(), 0);
  });
  co_await accept_ended_;
  listener_.reset();
  if (!path_.empty()) ::unlink(path_.c_str());
  path_.clear();
  for (const auto& session : sessions_) session->Stop();
  if (!sessions_.empty()) co_await sessions_ended_;
  // RunSession, which woke us, is still on the stack.
  co_await loop_.Yield();
  co_return OkStatus();
}

void NbdServer::Log(const std::string& line) const {
  if (options_.log) options_.log(line);
}

}  // namespace bootstream
