#include "imgserver/config.h"

#include <array>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

namespace bootstream {
namespace {

constexpr uint32_t kDayMs = 24 * 60 * 60 * 1000;

struct Key {
  std::string_view name;
  uint32_t ServerConfig::*member;
  uint32_t min;
  uint32_t max;
};

constexpr std::array kKeys = {
    Key{"header_bytes_max", &ServerConfig::header_bytes_max, 512, 1 << 20},
    Key{"target_bytes_max", &ServerConfig::target_bytes_max, 128, 1 << 20},
    Key{"requests_per_connection_max",
        &ServerConfig::requests_per_connection_max, 1, 1 << 30},
    Key{"connections_max", &ServerConfig::connections_max, 1, 1 << 20},
    Key{"connections_per_address_max",
        &ServerConfig::connections_per_address_max, 1, 1 << 20},
    Key{"header_timeout_ms", &ServerConfig::header_timeout_ms, 1, kDayMs},
    Key{"idle_timeout_ms", &ServerConfig::idle_timeout_ms, 1, kDayMs},
    Key{"send_timeout_ms", &ServerConfig::send_timeout_ms, 1, kDayMs},
    Key{"send_bytes_min", &ServerConfig::send_bytes_min, 1, 1 << 30},
    Key{"linger_timeout_ms", &ServerConfig::linger_timeout_ms, 1, kDayMs},
    Key{"stop_timeout_ms", &ServerConfig::stop_timeout_ms, 1, kDayMs},
    Key{"threads", &ServerConfig::threads, 0, 1024},
};

Error Invalid(std::string message) {
  return Error{ErrorCode::kInvalid, std::move(message)};
}

Status SetKey(ServerConfig& config, const std::string& name,
              const nlohmann::json& value) {
  for (const Key& key : kKeys) {
    if (key.name != name) continue;
    if (!value.is_number_unsigned() || value.get<uint64_t>() < key.min ||
        value.get<uint64_t>() > key.max) {
      return Invalid("\"" + name + "\" must be a whole number from " +
                     std::to_string(key.min) + " to " +
                     std::to_string(key.max));
    }
    config.*key.member = value.get<uint32_t>();
    return OkStatus();
  }
  return Invalid("no key \"" + name +
                 "\" is known; imgserver/protocol.md lists them");
}

}  // namespace

Result<ServerConfig> ParseConfig(std::string_view json) {
  const auto object = nlohmann::json::parse(json, nullptr, false);
  if (!object.is_object()) return Invalid("not a JSON object");
  ServerConfig config;
  for (const auto& [name, value] : object.items()) {
    if (auto set = SetKey(config, name, value); !set) return set.error();
  }
  return config;
}

Result<ServerConfig> LoadConfig(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return ErrnoError(errno, "configuration " + file);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  auto config = ParseConfig(text);
  if (!config) return Annotate(config.error(), "configuration " + file);
  return config;
}

}  // namespace bootstream
