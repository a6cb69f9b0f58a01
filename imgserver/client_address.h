#ifndef IMGSERVER_CLIENT_ADDRESS_H_
#define IMGSERVER_CLIENT_ADDRESS_H_

#include <sys/socket.h>

#include <cstdint>
#include <string>

#include "blockmap/base/result.h"

namespace bootstream {

// A socket address of either family.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = sizeof(sockaddr_storage);
};

// "127.0.0.1:8080" or "[::1]:8080"; port 0 lets the system choose.  Names are
// not looked up.  kInvalid for anything else.
Result<SocketAddress> ParseSocketAddress(const std::string& text);

// The same the other way.  An IPv4 client of an IPv6 socket is written as IPv4.
std::string FormatSocketAddress(const SocketAddress& address);

uint16_t PortOf(const SocketAddress& address);

// What counts as one client when connections are limited: the IPv4 address, or
// the first 64 bits of the IPv6 address, which one machine can fill at will.
std::string ClientKey(const SocketAddress& address);

}  // namespace bootstream

#endif  // IMGSERVER_CLIENT_ADDRESS_H_
