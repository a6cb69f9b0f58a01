#include "imgserver/client_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <array>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>

namespace bootstream {
namespace {

// sockaddr_storage is read by copy: no aliasing of types.
template <typename T>
T As(const SocketAddress& address) {
  T out;
  std::memcpy(&out, &address.storage, sizeof out);
  return out;
}

template <typename T>
SocketAddress From(const T& address) {
  SocketAddress out;
  std::memcpy(&out.storage, &address, sizeof address);
  out.size = sizeof address;
  return out;
}

std::optional<uint16_t> ParsePort(std::string_view text) {
  uint16_t port = 0;
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, port);
  if (text.empty() || result.ec != std::errc() || result.ptr != end) {
    return std::nullopt;
  }
  return port;
}

// The IPv4 address that an IPv6 socket reports as ::ffff:a.b.c.d.
std::optional<in_addr> MappedV4(const in6_addr& address) {
  if (!IN6_IS_ADDR_V4MAPPED(&address)) return std::nullopt;
  in_addr out{};
  std::memcpy(&out, address.s6_addr + 12, sizeof out);
  return out;
}

std::string TextOf(int family, const void* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  ::inet_ntop(family, address, text.data(), text.size());
  return text.data();
}

}  // namespace

Result<SocketAddress> ParseSocketAddress(const std::string& text) {
  const Error bad{
      ErrorCode::kInvalid,
      "address \"" + text + "\": not like 0.0.0.0:8080 or [::]:8080"};
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos) return bad;
  const auto port = ParsePort(std::string_view(text).substr(colon + 1));
  if (!port) return bad;
  const std::string host = text.substr(0, colon);

  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(*port);
    const std::string inner = host.substr(1, host.size() - 2);
    if (::inet_pton(AF_INET6, inner.c_str(), &v6.sin6_addr) != 1) return bad;
    return From(v6);
  }
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(*port);
  if (::inet_pton(AF_INET, host.c_str(), &v4.sin_addr) != 1) return bad;
  return From(v4);
}

std::string FormatSocketAddress(const SocketAddress& address) {
  const std::string port = ":" + std::to_string(PortOf(address));
  if (address.storage.ss_family == AF_INET) {
    const auto v4 = As<sockaddr_in>(address);
    return TextOf(AF_INET, &v4.sin_addr) + port;
  }
  const auto v6 = As<sockaddr_in6>(address);
  if (const auto v4 = MappedV4(v6.sin6_addr)) {
    return TextOf(AF_INET, &*v4) + port;
  }
  return "[" + TextOf(AF_INET6, &v6.sin6_addr) + "]" + port;
}

uint16_t PortOf(const SocketAddress& address) {
  return address.storage.ss_family == AF_INET
             ? ntohs(As<sockaddr_in>(address).sin_port)
             : ntohs(As<sockaddr_in6>(address).sin6_port);
}

std::string ClientKey(const SocketAddress& address) {
  const auto bytes = [](const void* data, size_t size) {
    return std::string(static_cast<const char*>(data), size);
  };
  if (address.storage.ss_family == AF_INET) {
    const auto v4 = As<sockaddr_in>(address);
    return bytes(&v4.sin_addr, sizeof v4.sin_addr);
  }
  const auto v6 = As<sockaddr_in6>(address);
  if (const auto v4 = MappedV4(v6.sin6_addr)) return bytes(&*v4, sizeof *v4);
  return bytes(&v6.sin6_addr, 8);
}

}  // namespace bootstream
