#include "initramfs/driver/control_server.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace bootstream {
namespace {

constexpr size_t kLineBytesMax = 64 * 1024;

}  // namespace

nlohmann::json ControlError(const std::string& message) {
  return {{"ok", false}, {"error", message}};
}

Result<UniqueFd> ControlServer::Listen(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return Error{ErrorCode::kInvalid, "control socket " + path +
                                          ": the path is longer than 107 bytes"};
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return ErrnoError(errno, "socket");
  ::unlink(path.c_str());
  const mode_t before = ::umask(0177);
  const int bound =
      ::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
  ::umask(before);
  if (bound != 0) return ErrnoError(errno, "bind " + path);
  if (::listen(fd.get(), 16) != 0) return ErrnoError(errno, "listen " + path);
  return fd;
}

std::unique_ptr<ControlServer> ControlServer::Serve(IoLoop& loop,
                                                    UniqueFd listener,
                                                    Handler handler) {
  std::unique_ptr<ControlServer> server(
      new ControlServer(loop, std::move(listener), std::move(handler)));
  Spawn(server->AcceptLoop());
  return server;
}

Task<void> ControlServer::AcceptLoop() {
  for (;;) {
    const int client = co_await loop_.Accept(fd_.get());
    if (client >= 0) {
      Spawn(ServeClient(UniqueFd(client)));
    } else if (client == -EMFILE || client == -ENFILE || client == -ENOMEM) {
      co_await loop_.Sleep(std::chrono::milliseconds(100));
    } else if (client != -EINTR && client != -ECONNABORTED) {
      co_return;
    }
  }
}

Task<void> ControlServer::ServeClient(UniqueFd client) {
  std::string pending;
  std::array<std::byte, 4096> buffer{};
  for (;;) {
    const int n = co_await loop_.Recv(client.get(), buffer);
    if (n <= 0) co_return;
    pending.append(reinterpret_cast<const char*>(buffer.data()),
                   static_cast<size_t>(n));
    for (size_t end = pending.find('\n'); end != std::string::npos;
         end = pending.find('\n')) {
      const std::string line = pending.substr(0, end);
      pending.erase(0, end + 1);
      const nlohmann::json answer = co_await Answer(line);
      const std::string reply = answer.dump() + "\n";
      const auto bytes = std::as_bytes(std::span(reply.data(), reply.size()));
      if (auto s = co_await loop_.SendAll(client.get(), bytes); !s) co_return;
    }
    if (pending.size() > kLineBytesMax) co_return;
  }
}

Task<nlohmann::json> ControlServer::Answer(std::string line) {
  nlohmann::json request = nlohmann::json::parse(line, nullptr, false);
  if (!request.is_object() || !request.contains("command") ||
      !request["command"].is_string()) {
    co_return ControlError(
        "a request is a JSON object with a string \"command\"");
  }
  nlohmann::json reply = co_await handler_(std::move(request));
  if (!reply.contains("ok")) reply["ok"] = true;
  co_return reply;
}

}  // namespace bootstream
