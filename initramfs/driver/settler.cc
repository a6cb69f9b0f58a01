#include "initramfs/driver/settler.h"

#include <chrono>

namespace bootstream {
namespace {

constexpr auto kLookAgain = std::chrono::milliseconds(100);
constexpr auto kLookWhetherPaused = std::chrono::milliseconds(100);
// Chunks that are settled already and are passed by in one turn.
constexpr uint64_t kPassedByAtOnce = 4096;

}  // namespace

std::string_view SettlerStateName(Settler::State state) {
  switch (state) {
    case Settler::State::kNone:
      return "none";
    case Settler::State::kPaused:
      return "paused";
    case Settler::State::kRunning:
      return "running";
    case Settler::State::kSettled:
      return "settled";
  }
  return "unknown";
}

Settler::Settler(Executor& executor, StreamEngine& engine, MapStore& store,
                 Options options)
    : executor_(executor),
      engine_(engine),
      store_(store),
      options_(options),
      pacer_(
          executor, [&engine] { return engine.disk_in_use(); }, options.yield,
          options.bytes_per_second) {}

Settler::State Settler::state() const {
  const Phase phase = store_.superblock().phase;
  if (phase == Phase::kSettled) return State::kSettled;
  if (phase != Phase::kCommitted) return State::kNone;
  return paused_ ? State::kPaused : State::kRunning;
}

Settler::Progress Settler::progress() const {
  return {engine_.manifest().grid().chunk_count(), store_.settled_count()};
}

void Settler::Start() {
  started_ = true;
  Spawn(Run());
}

Task<void> Settler::Stop() {
  stopped_ = true;
  pacer_.Stop();
  if (started_) co_await ended_;
}

Task<void> Settler::Run() {
  // What was written and never flushed may be on the disk, and not in the map.
  if (store_.superblock().phase == Phase::kSettled) {
    const Status s = co_await store_.UpdateSuperblock(
        [](Superblock& block) { block.phase = Phase::kCommitted; });
    if (!s) failure_ = s.error().message;
  }
  while (!stopped_) {
    const Phase phase = store_.superblock().phase;
    if (phase >= Phase::kCommitted && phase <= Phase::kSettled) {
      engine_.GoHome();
    }
    if (phase == Phase::kCommitted) {
      failure_.clear();
      co_await Pass();
      if (stopped_) break;
      const Status s = co_await store_.Settle();
      if (s) continue;
      if (failure_.empty()) failure_ = s.error().message;
    }
    // In short steps, that nobody waits long for the end.
    for (int i = 0; i < 10 && !stopped_; ++i) {
      co_await executor_.Sleep(kLookAgain);
    }
  }
  ended_.Set();
}

Task<void> Settler::Pass() {
  next_ = 0;
  uint32_t running = options_.parallel_chunks;
  Event all_done;
  for (uint32_t i = 0; i < options_.parallel_chunks; ++i) {
    Spawn(Worker(all_done, running));
  }
  co_await all_done;
}

Task<void> Settler::Worker(Event& all_done, uint32_t& running) {
  const Grid grid = engine_.manifest().grid();
  uint64_t passed_by = 0;
  while (next_ < grid.chunk_count() && !stopped_) {
    const ImageChunk chunk{next_++};
    if (engine_.IsSettled(chunk)) {
      if (++passed_by % kPassedByAtOnce == 0) co_await executor_.Yield();
      continue;
    }
    while (paused_ && !stopped_) {
      co_await executor_.Sleep(kLookWhetherPaused);
    }
    co_await pacer_.Turn(grid.bytes_of(chunk.value));
    if (stopped_) break;
    const Status s = co_await engine_.SettleChunk(chunk);
    if (!s && s.error().code != ErrorCode::kUnavailable) {
      failure_ = s.error().message;
    }
  }
  if (--running == 0) all_done.Set();
}

}  // namespace bootstream
