#include "initramfs/driver/backfill.h"

#include <algorithm>
#include <chrono>
#include <tuple>

namespace bootstream {
namespace {

constexpr auto kRetryDelay = std::chrono::seconds(2);

}  // namespace

std::string_view BackfillStateName(Backfill::State state) {
  switch (state) {
    case Backfill::State::kPaused:
      return "paused";
    case Backfill::State::kRunning:
      return "running";
    case Backfill::State::kRegionFull:
      return "region-full";
    case Backfill::State::kComplete:
      return "complete";
  }
  return "unknown";
}

Backfill::Backfill(Executor& executor, StreamEngine& engine, MapStore& store,
                   Options options)
    : executor_(executor),
      engine_(engine),
      store_(store),
      options_(options),
      pacer_(
          executor, [&engine] { return engine.disk_in_use(); }, options.yield,
          options.bytes_per_second) {}

void Backfill::Start() {
  MakeOrder();
  if (!options_.start_paused) {
    Resume();
    begins_at_ = executor_.Now() + options_.start_jitter;
  } else if (options_.resume_after > Executor::Duration(0)) {
    executor_.PostAfter(options_.resume_after + options_.start_jitter,
                        [this] { ResumeWhenQuiet(); });
  }
  Spawn(Run());
}

void Backfill::Pause() {
  waits_for_quiet_ = false;
  if (state_ != State::kRunning) return;
  state_ = State::kPaused;
  resumed_ = std::make_unique<Event>();
}

void Backfill::Resume() {
  if (state_ != State::kPaused || stopped_) return;
  state_ = State::kRunning;
  waits_for_quiet_ = false;
  resumed_->Set();
}

void Backfill::RegionIsFull() {
  if (state_ != State::kRunning) return;
  state_ = State::kRegionFull;
  resumed_ = std::make_unique<Event>();
}

void Backfill::GoOnWithRoom() {
  if (state_ != State::kRegionFull || stopped_) return;
  state_ = State::kRunning;
  failure_.clear();
  resumed_->Set();
}

void Backfill::ResumeWhenQuiet() {
  if (waits_for_quiet_) return;
  waits_for_quiet_ = true;
  LookWhetherQuiet();
}

void Backfill::LookWhetherQuiet() {
  if (!waits_for_quiet_ || state_ != State::kPaused || stopped_) return;
  const auto quiet_at = engine_.first_reads().last_added() + options_.quiet;
  const auto now = executor_.Now();
  if (now >= quiet_at) return Resume();
  executor_.PostAfter(quiet_at - now, [this] { LookWhetherQuiet(); });
}

Task<void> Backfill::Stop() {
  stopped_ = true;
  pacer_.Stop();
  if (!resumed_->is_set()) resumed_->Set();
  co_await declaring_.Ended();
}

void Backfill::MakeOrder() {
  const ManifestContent& content = engine_.manifest().content();
  std::vector<bool> listed(engine_.manifest().grid().chunk_count());
  const auto add = [&](uint64_t chunk) {
    if (chunk >= listed.size() || listed[chunk]) return;
    listed[chunk] = true;
    order_.push_back(ImageChunk{chunk});
  };
  for (const PrefetchEntry& entry : content.prefetch) {
    for (uint32_t i = 0; i < entry.count; ++i) add(entry.first + i);
  }
  struct Placed {
    uint32_t pack;
    uint64_t offset;
    uint64_t chunk;
  };
  std::vector<Placed> placed;
  placed.reserve(content.chunks.size());
  for (const ChunkRun& run : content.runs) {
    for (uint64_t i = 0; i < run.count; ++i) {
      const ChunkEntry& entry = content.chunks[run.entry + i];
      placed.push_back({entry.pack, entry.pack_offset, run.first + i});
    }
  }
  std::sort(placed.begin(), placed.end(), [](const auto& a, const auto& b) {
    return std::tie(a.pack, a.offset) < std::tie(b.pack, b.offset);
  });
  for (const Placed& item : placed) add(item.chunk);
}

Task<void> Backfill::Run() {
  co_await *resumed_;
  if (auto s = co_await AuditBootSet(); !s) failure_ = s.error().message;
  const Executor::Duration now = executor_.Now();
  if (begins_at_ > now) co_await executor_.Sleep(begins_at_ - now);
  while (!stopped_) {
    next_ = 0;
    uint32_t running = options_.parallel_fetches;
    Event all_done;
    for (uint32_t i = 0; i < options_.parallel_fetches; ++i) {
      Spawn(Worker(all_done, running));
    }
    co_await all_done;
    const bool missing =
        std::any_of(order_.begin(), order_.end(),
                    [&](ImageChunk chunk) { return engine_.IsMissing(chunk); });
    if (stopped_) break;
    if (state_ == State::kRegionFull) {
      co_await *resumed_;
      continue;
    }
    if (!missing) {
      const Status s = co_await DeclareComplete();
      if (s) co_return;
      failure_ = s.error().message;
    }
    co_await executor_.Sleep(kRetryDelay);
  }
}

Task<void> Backfill::Worker(Event& all_done, uint32_t& running) {
  while (next_ < order_.size() && !stopped_) {
    const ImageChunk chunk = order_[next_++];
    if (!engine_.IsMissing(chunk)) continue;
    const ChunkEntry* entry = engine_.manifest().Find(chunk);
    co_await WaitForTurn(entry == nullptr ? 0 : entry->packed_bytes);
    if (stopped_ || state_ == State::kRegionFull) break;
    const Status s = co_await engine_.Hydrate(chunk, FetchClass::kBackfill);
    if (s) continue;
    failure_ = s.error().message;
    if (s.error().code == ErrorCode::kNoSpace) RegionIsFull();
  }
  if (--running == 0) all_done.Set();
}

Task<void> Backfill::WaitForTurn(uint64_t bytes) {
  while (state_ == State::kPaused && !stopped_) co_await *resumed_;
  co_await pacer_.Turn(bytes);
}

Task<Status> Backfill::AuditBootSet() {
  for (const ChunkExtent& run : engine_.manifest().content().boot_set) {
    for (uint64_t i = 0; i < run.count && !stopped_; ++i) {
      const ImageChunk chunk{run.first + i};
      if (auto s = co_await engine_.AuditBootChunk(chunk); !s) co_return s;
      co_await executor_.Yield();
    }
  }
  co_return OkStatus();
}

Task<Status> Backfill::DeclareComplete() {
  const auto mark = declaring_.Begin();
  if (store_.superblock().phase < Phase::kComplete) {
    const Status s =
        co_await store_.UpdateSuperblock([](Superblock& superblock) {
          superblock.phase = CompletePhase(superblock);
        });
    if (!s) co_return s;
  }
  state_ = State::kComplete;
  failure_.clear();
  completed_.Set();
  co_return OkStatus();
}

}  // namespace bootstream
