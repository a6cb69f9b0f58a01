#include "initramfs/driver/control_server.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

namespace bootstream {
namespace {

constexpr size_t kLineBytesMax = size_t{64} << 10;
// JSON is copied and printed by recursion; a request needs two levels.
constexpr int kNestingMax = 32;

bool NestsTooDeep(std::string_view line) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (c == '"') in_string = !in_string;
    if (in_string) {
      if (c == '\\') ++i;  // what follows ends nothing
    } else if (c == '[' || c == '{') {
      if (++depth > kNestingMax) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

// Is the other end root, or who we are?
bool MaySteer(int client) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
         (peer.uid == 0 || peer.uid == ::geteuid());
}

std::span<const std::byte> BytesOf(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace

std::string JsonLine(const nlohmann::json& json) {
  constexpr auto kReplace = nlohmann::json::error_handler_t::replace;
  return json.dump(-1, ' ', false, kReplace) + "\n";
}

nlohmann::json ControlError(const std::string& message) {
  return {{"ok", false}, {"error", message}};
}

Result<UniqueFd> ControlServer::Listen(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return Error{
        ErrorCode::kInvalid,
        "control socket " + path + ": the path is longer than 107 bytes"};
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return ErrnoError(errno, "socket");
  ::unlink(path.c_str());
  // Before bind: the node is born with these permissions (unix(7)).
  if (::fchmod(fd.get(), 0600) != 0) return ErrnoError(errno, "fchmod socket");
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) !=
      0) {
    return ErrnoError(errno, "bind " + path);
  }
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
      accepting_ = false;
      EndIfIdle();
      co_return;
    }
  }
}

Task<void> ControlServer::Stop() {
  ::shutdown(fd_.get(), SHUT_RDWR);
  for (const int client : clients_) ::shutdown(client, SHUT_RDWR);
  co_await ended_;
  // Whoever ended last is still on the stack.
  co_await loop_.Yield();
}

void ControlServer::EndIfIdle() {
  if (!accepting_ && clients_.empty()) ended_.Set();
}

Task<void> ControlServer::ServeClient(UniqueFd client) {
  clients_.insert(client.get());
  co_await Talk(client.get());
  clients_.erase(client.get());
  client.reset();
  EndIfIdle();
}

Task<void> ControlServer::Talk(int client) {
  if (!MaySteer(client)) {
    const std::string no =
        JsonLine(ControlError("only root may use the control socket"));
    (void)co_await loop_.SendAll(client, BytesOf(no));
    co_return;
  }
  ControlConnection connection;
  std::string pending;
  std::array<std::byte, 4096> buffer{};
  for (;;) {
    const int n = co_await loop_.Recv(client, buffer);
    if (n <= 0) co_return;
    pending.append(reinterpret_cast<const char*>(buffer.data()),
                   static_cast<size_t>(n));
    for (size_t end = pending.find('\n'); end != std::string::npos;
         end = pending.find('\n')) {
      const std::string line = pending.substr(0, end);
      pending.erase(0, end + 1);
      const nlohmann::json answer = co_await Answer(line, connection);
      const std::string reply = JsonLine(answer);
      auto s = co_await loop_.SendAll(client, BytesOf(reply));
      if (!s) co_return;
    }
    if (pending.size() > kLineBytesMax) co_return;
  }
}

Task<nlohmann::json> ControlServer::Answer(std::string line,
                                           ControlConnection& connection) {
  if (NestsTooDeep(line)) co_return ControlError("nested too deep");
  nlohmann::json request = nlohmann::json::parse(line, nullptr, false);
  if (!request.is_object() || !request.contains("command") ||
      !request["command"].is_string()) {
    co_return ControlError(
        "a request is a JSON object with a string \"command\"");
  }
  nlohmann::json reply = co_await handler_(std::move(request), connection);
  if (!reply.contains("ok")) reply["ok"] = true;
  co_return reply;
}

}  // namespace bootstream
