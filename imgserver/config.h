#ifndef IMGSERVER_CONFIG_H_
#define IMGSERVER_CONFIG_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "blockmap/base/result.h"

namespace bootstream {

// Limits on everything that a client can grow, and the number of threads.
// imgserver/protocol.md says what happens when each is passed.
struct ServerConfig {
  uint32_t header_bytes_max = 8192;
  uint32_t target_bytes_max = 2048;
  uint32_t requests_per_connection_max = 10000;
  uint32_t connections_max = 4096;
  uint32_t connections_per_address_max = 256;
  uint32_t header_timeout_ms = 10000;
  uint32_t idle_timeout_ms = 60000;
  uint32_t send_timeout_ms = 30000;
  uint32_t send_bytes_min = 16384;
  uint32_t linger_timeout_ms = 2000;
  uint32_t stop_timeout_ms = 10000;
  uint32_t threads = 0;  // 0: one a core
};

// Take the keys that a JSON object names; the others keep their defaults.  An
// unknown key, a value that is not a whole number and one out of range are
// kInvalid, with the key's name.
Result<ServerConfig> ParseConfig(std::string_view json);

// The same from a file.
Result<ServerConfig> LoadConfig(const std::string& file);

}  // namespace bootstream

#endif  // IMGSERVER_CONFIG_H_
