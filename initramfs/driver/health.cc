#include "initramfs/driver/health.h"

#include <fstream>
#include <functional>
#include <string>

#include "blockmap/image/signing.h"

namespace bootstream {

BootHealth::BootHealth(Executor& executor, MapStore& store,
                       const StreamEngine& engine, Options options)
    : executor_(executor), store_(store), engine_(engine), options_(options) {}

BootHealth::~BootHealth() { *alive_ = false; }

void BootHealth::Start() {
  quiet_since_ = executor_.Now();
  const Superblock& superblock = store_.superblock();
  if (options_.boot_id != Uuid{} &&
      superblock.counted_boot == options_.boot_id) {
    state_ = superblock.boots_without_health == 0 ? State::kHealthy
                                                  : State::kCounted;
  }
  WatchSoon();
}

Task<void> BootHealth::Stop() {
  stopped_ = true;
  if (watching_) {
    const std::shared_ptr<Event> running = watching_;
    co_await *running;
  }
}

void BootHealth::WatchSoon() {
  const bool judged = state_ == State::kHealthy || state_ == State::kWaited;
  if (stopped_ || judged) return;
  executor_.PostAfter(options_.interval, [this, alive = alive_] {
    if (*alive && !stopped_) Spawn(Watch());
  });
}

Task<void> BootHealth::Watch() {
  const auto running = std::make_shared<Event>();
  watching_ = running;
  co_await Judge();
  watching_.reset();
  WatchSoon();
  running->Set();
}

// A failure to write is the store's, which then refuses all else too.
Task<void> BootHealth::Judge() {
  const auto now = executor_.Now();
  const auto since = engine_.waiting_since();
  if (since) quiet_since_ = now;
  if (state_ == State::kHealthy || state_ == State::kWaited) co_return;
  if (since && now - *since >= options_.wait_limit) {
    (void)co_await Uncount();
    co_return;
  }
  const bool answered = engine_.statistics().answered_fetches > 0;
  const bool quiet = now - quiet_since_ >= options_.quiet;
  if (state_ == State::kBegun && (answered || quiet)) (void)co_await Count();
}

Task<Status> BootHealth::Count() {
  state_ = State::kCounted;
  const std::function<void(Superblock&)> count = [this](Superblock& block) {
    ++block.boots_without_health;
    block.starts_without_boot = 0;
    block.counted_boot = options_.boot_id;
  };
  co_return co_await store_.UpdateSuperblock(count);
}

Task<Status> BootHealth::Uncount() {
  const bool counted = state_ == State::kCounted;
  state_ = State::kWaited;
  const std::function<void(Superblock&)> uncount = [=](Superblock& block) {
    if (counted && block.boots_without_health > 0) --block.boots_without_health;
    block.starts_without_boot = 0;
    if (counted) block.counted_boot = Uuid{};
  };
  co_return co_await store_.UpdateSuperblock(uncount);
}

Task<Status> BootHealth::ReportHealthy() {
  const std::function<void(Superblock&)> healthy = [this](Superblock& block) {
    block.healthy_once = true;
    block.boots_without_health = 0;
    block.starts_without_boot = 0;
    block.counted_boot = options_.boot_id;
  };
  auto s = co_await store_.UpdateSuperblock(healthy);
  if (s) state_ = State::kHealthy;
  co_return s;
}

std::string_view HealthName(BootHealth::State state) {
  switch (state) {
    case BootHealth::State::kBegun:
      return "begun";
    case BootHealth::State::kCounted:
      return "not-reported";
    case BootHealth::State::kWaited:
      return "waited-for-server";
    case BootHealth::State::kHealthy:
      return "healthy";
  }
  return "unknown";
}

Uuid ThisBoot() {
  std::ifstream in("/proc/sys/kernel/random/boot_id");
  std::string text;
  std::getline(in, text);
  std::erase(text, '-');
  Uuid id{};
  if (!FromHex(text, id)) return Uuid{};
  return id;
}

}  // namespace bootstream
