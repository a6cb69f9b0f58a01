#ifndef BLOCKMAP_IMAGE_SERVER_LIST_H_
#define BLOCKMAP_IMAGE_SERVER_LIST_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "blockmap/base/executor.h"

namespace bootstream {

inline constexpr std::chrono::milliseconds kBackOffMax{15000};

// How long to wait after the n-th failure in a row (n from 1): 0.2 s, doubling
// up to `max`, of which a random half is left out so that clients spread.
Executor::Duration BackOff(uint32_t failures, std::mt19937_64& random,
                           std::chrono::milliseconds max = kBackOffMax);

// Servers with the same content, and which of them to ask now.  One thread.
class ServerList {
 public:
  using Duration = Executor::Duration;
  ServerList(std::vector<std::string> urls, std::mt19937_64& random,
             std::chrono::milliseconds back_off_max = kBackOffMax);

  // The preferred one that is not backing off; `avoid` only if nothing else is
  // left.  Nothing if all are backing off.
  std::optional<size_t> Pick(Duration now, size_t avoid) const;
  // The server as a whole does not work, and is left alone for a while, at
  // least for `pause`.
  void Failed(size_t server, Duration now, Duration pause = Duration(0));
  // It answered, but not with what we need: prefer the next one.
  void Disappointed(size_t server);
  void Succeeded(size_t server);
  // When the first one may be asked again.  REQUIRES: all are backing off.
  Duration NextReady() const;
  const std::string& url(size_t server) const { return servers_[server].url; }
  size_t size() const { return servers_.size(); }

 private:
  struct Server {
    std::string url;  // ends with a slash
    uint32_t failures = 0;
    Duration not_before{0};
  };
  std::vector<Server> servers_;
  size_t preferred_ = 0;
  std::mt19937_64& random_;
  std::chrono::milliseconds back_off_max_;
};

}  // namespace bootstream

#endif  // BLOCKMAP_IMAGE_SERVER_LIST_H_
