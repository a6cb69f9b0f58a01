#include "initramfs/driver/control_client.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace bootstream {

Result<ControlClient> ControlClient::Connect(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return Error{ErrorCode::kInvalid, path + ": longer than 107 bytes"};
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return ErrnoError(errno, "socket");
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address),
                sizeof address) != 0) {
    if (errno == ENOENT || errno == ECONNREFUSED) {
      return Error{ErrorCode::kNotFound,
                   "no driver listens at " + path +
                       ": this system is not under migration, or streamd runs "
                       "with another --control"};
    }
    return ErrnoError(errno, "connect " + path);
  }
  return ControlClient(std::move(fd));
}

Result<nlohmann::json> ControlClient::Ask(const nlohmann::json& request) {
  constexpr auto kReplace = nlohmann::json::error_handler_t::replace;
  const std::string line = request.dump(-1, ' ', false, kReplace) + "\n";
  for (size_t sent = 0; sent < line.size();) {
    const ssize_t n =
        ::send(fd_.get(), line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EPIPE) break;  // it has said why, and left
    if (n < 0) return ErrnoError(errno, "control socket");
    sent += static_cast<size_t>(n);
  }
  size_t end = 0;
  while ((end = pending_.find('\n')) == std::string::npos) {
    std::array<char, 65536> buffer;
    const ssize_t n = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoError(errno, "control socket");
    if (n == 0) {
      return Error{ErrorCode::kIo, "the driver closed the connection"};
    }
    pending_.append(buffer.data(), static_cast<size_t>(n));
  }
  auto reply = nlohmann::json::parse(pending_.substr(0, end), nullptr, false);
  pending_.erase(0, end + 1);
  if (!reply.is_object()) {
    return Error{ErrorCode::kCorrupt, "the driver's reply is no JSON object"};
  }
  if (const auto ok = reply.find("ok"); ok == reply.end() || *ok != true) {
    const auto error = reply.find("error");
    return Error{ErrorCode::kRefused, error != reply.end() && error->is_string()
                                          ? error->get<std::string>()
                                          : "refused"};
  }
  return reply;
}

}  // namespace bootstream
