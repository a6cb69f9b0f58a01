#include "initramfs/driver/prefetch.h"

namespace bootstream {

Prefetch::Prefetch(StreamEngine& engine, Options options)
    : engine_(engine), options_(options) {
  const uint64_t chunk_count = engine_.manifest().grid().chunk_count();
  for (const PrefetchEntry& entry : engine_.manifest().content().prefetch) {
    for (uint64_t i = 0; i < entry.count; ++i) {
      const ImageChunk chunk{entry.first + i};
      const bool wanted = chunk.value < chunk_count && engine_.IsMissing(chunk);
      if (wanted) order_.push_back(chunk);
    }
  }
}

void Prefetch::Start() {
  if (options_.off) return Stop();
  engine_.TurnGuessesOff(true);
  running_ = options_.parallel_fetches;
  for (uint32_t i = 0; i < options_.parallel_fetches; ++i) Spawn(Worker());
}

Task<void> Prefetch::Worker() {
  while (next_ < order_.size()) {
    const ImageChunk chunk = order_[next_++];
    if (!engine_.IsMissing(chunk)) continue;
    const Status s = co_await engine_.Hydrate(chunk, FetchClass::kPrefetch);
    // The region is full, or the disk fails: whoever reads it will see.
    if (!s) Stop();
  }
  if (--running_ == 0) engine_.TurnGuessesOff(false);
}

}  // namespace bootstream
