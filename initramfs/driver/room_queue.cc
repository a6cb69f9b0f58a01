#include "initramfs/driver/room_queue.h"

#include <algorithm>
#include <cassert>
#include <chrono>
#include <utility>

namespace bootstream {
namespace {

// Looking for a clean chunk goes through the whole map.
constexpr auto kPauseMin = std::chrono::milliseconds(10);
constexpr auto kPauseMax = std::chrono::seconds(1);

}  // namespace

RoomQueue::RoomQueue(Executor& executor)
    : executor_(executor),
      pause_(kPauseMin),
      alive_(std::make_shared<bool>(true)) {}

RoomQueue::~RoomQueue() {
  assert(turns_.empty());
  *alive_ = false;
}

RoomQueue::Turn::Turn(RoomQueue& queue)
    : queue_(queue),
      since_(queue.executor_.Now()),
      place_(queue.turns_.insert(queue.turns_.end(), this)) {}

// Where there was room for one there may be more.
RoomQueue::Turn::~Turn() {
  queue_.turns_.erase(place_);
  queue_.RoomMade();
}

bool RoomQueue::Turn::FirstLook() { return !std::exchange(looked_, true); }

Task<bool> RoomQueue::Turn::Wait() {
  if (queue_.closed_) co_return false;
  ++queue_.waited_;
  looked_ = false;
  wake_ = std::make_unique<Event>();
  queue_.turns_.splice(queue_.turns_.end(), queue_.turns_, place_);
  queue_.Tick();
  Event& wake = *wake_;
  co_await wake;
  co_return !queue_.closed_;
}

std::optional<Executor::Duration> RoomQueue::waiting_since() const {
  if (turns_.empty()) return std::nullopt;
  const auto oldest = std::ranges::min_element(
      turns_, {}, [](const Turn* turn) { return turn->since_; });
  return (*oldest)->since_;
}

// Not at once: who says so may hold what the other needs.
void RoomQueue::RoomMade() {
  pause_ = kPauseMin;
  if (turns_.empty() || waking_) return;
  waking_ = true;
  executor_.Post([this, alive = alive_] {
    if (!*alive) return;
    waking_ = false;
    WakeOne();
  });
}

void RoomQueue::WakeOne() {
  const auto found = std::ranges::find_if(
      turns_, [](const Turn* turn) { return turn->wake_ != nullptr; });
  if (found == turns_.end()) return;
  const std::unique_ptr<Event> wake = std::move((*found)->wake_);
  wake->Set();
}

void RoomQueue::Tick() {
  if (std::exchange(ticking_, true)) return;
  executor_.PostAfter(pause_, [this, alive = alive_] {
    if (!*alive) return;
    ticking_ = false;
    if (turns_.empty()) return;
    pause_ = std::min<Executor::Duration>(pause_ * 2, kPauseMax);
    WakeOne();
    if (!turns_.empty()) Tick();
  });
}

void RoomQueue::Close() {
  closed_ = true;
  for (size_t left = turns_.size(); left > 0; --left) WakeOne();
}

}  // namespace bootstream
