#include "blockmap/image/server_list.h"

#include <algorithm>

namespace bootstream {
namespace {

constexpr std::chrono::milliseconds kBackOffFirst(200);

}  // namespace

Executor::Duration BackOff(uint32_t failures, std::mt19937_64& random,
                           std::chrono::milliseconds max) {
  const uint32_t doublings = std::min(failures > 0 ? failures - 1 : 0, 16U);
  const auto full = std::min(kBackOffFirst * (1 << doublings), max);
  std::uniform_int_distribution<int64_t> spread(full.count() / 2, full.count());
  return std::chrono::milliseconds(spread(random));
}

ServerList::ServerList(std::vector<std::string> urls, std::mt19937_64& random,
                       std::chrono::milliseconds back_off_max)
    : random_(random), back_off_max_(back_off_max) {
  for (std::string& url : urls) {
    if (!url.ends_with('/')) url += '/';
    servers_.push_back(Server{std::move(url), 0, Duration(0)});
  }
}

std::optional<size_t> ServerList::Pick(Duration now, size_t avoid) const {
  std::optional<size_t> last_resort;
  for (size_t i = 0; i < servers_.size(); ++i) {
    const size_t server = (preferred_ + i) % servers_.size();
    if (servers_[server].not_before > now) continue;
    if (server != avoid) return server;
    last_resort = server;
  }
  return last_resort;
}

void ServerList::Failed(size_t server, Duration now, Duration pause) {
  Server& it = servers_[server];
  // Several requests of one outage are one failure.
  if (it.not_before > now) {
    it.not_before = std::max(it.not_before, now + pause);
    return;
  }
  ++it.failures;
  it.not_before =
      now + std::max(pause, BackOff(it.failures, random_, back_off_max_));
  Disappointed(server);
}

void ServerList::Disappointed(size_t server) {
  if (preferred_ == server) preferred_ = (server + 1) % servers_.size();
}

void ServerList::Succeeded(size_t server) {
  servers_[server].failures = 0;
  servers_[server].not_before = Duration(0);
}

ServerList::Duration ServerList::NextReady() const {
  return std::min_element(servers_.begin(), servers_.end(),
                          [](const Server& a, const Server& b) {
                            return a.not_before < b.not_before;
                          })
      ->not_before;
}

}  // namespace bootstream
