#include "imgserver/server.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>

#include "imgserver/response.h"
#include "imgserver/worker.h"

namespace bootstream {
namespace {

// How long accepting rests when the process has no descriptor left.
constexpr int kAcceptRestMs = 100;

Error ListenError(int error_number, const std::string& address) {
  Error error = ErrnoError(error_number, "listen on " + address);
  switch (error_number) {
    case EADDRINUSE:
      error.message +=
          "; stop the program that has it (ss -ltnp shows which)"
          " or choose another port with --listen";
      break;
    case EACCES:
      error.message += "; ports below 1024 need root or CAP_NET_BIND_SERVICE";
      break;
    case EADDRNOTAVAIL:
      error.message += "; this machine has no such address (ip address)";
      break;
    default:
      break;
  }
  return error;
}

void SetTcpOption(int fd, int option, int value) {
  ::setsockopt(fd, IPPROTO_TCP, option, &value, sizeof value);
}

// Options of the listening socket are inherited by what it accepts.
Result<UniqueFd> Listen(const SocketAddress& address, const std::string& text) {
  UniqueFd fd(::socket(address.storage.ss_family,
                       SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return ListenError(errno, text);
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  SetTcpOption(fd.get(), TCP_NODELAY, 1);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address.storage),
             address.size) != 0 ||
      ::listen(fd.get(), SOMAXCONN) != 0) {
    return ListenError(errno, text);
  }
  return fd;
}

Result<SocketAddress> LocalAddress(int fd) {
  SocketAddress out;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&out.storage), &out.size) !=
      0) {
    return ErrnoError(errno, "getsockname");
  }
  return out;
}

}  // namespace

Result<std::unique_ptr<Server>> Server::Start(const std::string& address,
                                              const ServerConfig& config,
                                              const ImageStore& store,
                                              AccessLog& log) {
  const auto wanted = ParseSocketAddress(address);
  if (!wanted) return wanted.error();
  auto listener = Listen(*wanted, address);
  if (!listener) return listener.error();
  const auto local = LocalAddress(listener->get());
  if (!local) return local.error();
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC));
  if (!wake) return ErrnoError(errno, "eventfd");
  return std::unique_ptr<Server>(new Server(
      *std::move(listener), std::move(wake), *local, config, store, log));
}

Server::Server(UniqueFd listener, UniqueFd wake, const SocketAddress& address,
               const ServerConfig& config, const ImageStore& store,
               AccessLog& log)
    : config_(config),
      log_(log),
      address_(address),
      listener_(std::move(listener)),
      wake_(std::move(wake)),
      admission_(config.connections_max, config.connections_per_address_max) {
  const uint32_t count =
      config.threads > 0 ? config.threads
                         : std::max(1U, std::thread::hardware_concurrency());
  for (uint32_t i = 0; i < count; ++i) {
    workers_.push_back(
        std::make_unique<Worker>(ServerContext{config_, store, log_}));
  }
  acceptor_ = std::thread([this] { AcceptUntilStopped(); });
}

Server::~Server() { StopAccepting(); }

void Server::Stop() {
  StopAccepting();
  for (auto& worker : workers_) worker->BeginStop();
  for (auto& worker : workers_) worker->Join();
}

void Server::StopAccepting() {
  if (!acceptor_.joinable()) return;
  ::eventfd_write(wake_.get(), 1);
  acceptor_.join();
  listener_.reset();
}

void Server::AcceptUntilStopped() {
  std::array<pollfd, 2> wait{pollfd{wake_.get(), POLLIN, 0},
                             pollfd{listener_.get(), POLLIN, 0}};
  for (;;) {
    ::poll(wait.data(), wait.size(), -1);
    if (wait[0].revents != 0) return;
    if (!AcceptOne()) {
      ::poll(wait.data(), 1, kAcceptRestMs);
      if (wait[0].revents != 0) return;
    }
  }
}

bool Server::AcceptOne() {
  SocketAddress client;
  UniqueFd socket(::accept4(listener_.get(),
                            reinterpret_cast<sockaddr*>(&client.storage),
                            &client.size, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (socket) {
    Admit(std::move(socket), client);
    return true;
  }
  // Everything else concerns one client, which has left already.
  return errno != EMFILE && errno != ENFILE && errno != ENOBUFS &&
         errno != ENOMEM;
}

void Server::Admit(UniqueFd socket, const SocketAddress& client) {
  const std::string name = FormatSocketAddress(client);
  auto ticket = admission_.Enter(ClientKey(client));
  if (ticket) {
    workers_[next_worker_]->Adopt(
        AcceptedSocket{std::move(socket), name, *std::move(ticket)});
    next_worker_ = (next_worker_ + 1) % workers_.size();
    return;
  }
  // Nothing is kept for a client above the limits: a fresh socket has room for
  // these bytes, and whether they arrive is not waited for.
  const int64_t now_ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(
          std::chrono::system_clock::now().time_since_epoch())
          .count();
  const Response response =
      AnswerWithRefusal(nullptr, {503, "Too many connections. Try again."},
                        ResponseContext{now_ms / 1000, false});
  const ssize_t n = ::send(socket.get(), response.head.data(),
                           response.head.size(), MSG_NOSIGNAL);
  AccessRecord record;
  record.time_ms = now_ms;
  record.client = name;
  record.status = response.status;
  record.bytes = n > 0 ? static_cast<uint64_t>(n) : 0;
  record.end = "done";
  log_.Add(record);
}

}  // namespace bootstream
