#include "blockmap/image/fetch_queue.h"

#include <algorithm>
#include <utility>

namespace bootstream {

void FetchQueue::Add(WantedFrame frame) {
  if (frame.order == 0) frame.order = next_order_++;
  const auto [found, fresh] = frames_.try_emplace(frame.key, frame);
  if (fresh) {
    failed_count_ += frame.failures > 0;
  } else {
    WantedFrame& old = found->second;
    ranks_.erase(RankOf(old));
    old.fetch_class = std::min(old.fetch_class, frame.fetch_class);
    old.order = std::min(old.order, frame.order);
    old.since = std::min(old.since, frame.since);
    old.waiters.insert(old.waiters.end(), frame.waiters.begin(),
                       frame.waiters.end());
  }
  ranks_.insert(RankOf(found->second));
}

bool FetchQueue::Promote(const FrameKey& key, FetchClass fetch_class) {
  const auto found = frames_.find(key);
  if (found == frames_.end()) return false;
  WantedFrame& frame = found->second;
  if (fetch_class >= frame.fetch_class) return true;
  ranks_.erase(RankOf(frame));
  frame.fetch_class = fetch_class;
  ranks_.insert(RankOf(frame));
  return true;
}

const WantedFrame* FetchQueue::Best(Duration now, FetchClass lowest) const {
  for (const Rank& rank : ranks_) {
    if (std::get<0>(rank) > lowest) break;
    const WantedFrame& frame = frames_.at(std::get<2>(rank));
    if (frame.not_before <= now) return &frame;
  }
  return nullptr;
}

bool FetchQueue::HasDue(Duration now, FetchClass lowest) const {
  return Best(now, lowest) != nullptr;
}

std::optional<FetchBatch> FetchQueue::Take(Duration now, FetchClass lowest,
                                           const FetchLimits& limits) {
  const WantedFrame* first = Best(now, lowest);
  if (first == nullptr) return std::nullopt;
  FetchBatch batch;
  batch.fetch_class = first->fetch_class;
  std::vector<FrameKey> keys = {first->key};
  if (first->failures == 0) {
    ExtendBackward(*first, now, limits, keys);
    ExtendForward(*first, now, limits, keys);
  }
  std::sort(keys.begin(), keys.end());
  for (const FrameKey& key : keys) batch.frames.push_back(Remove(key));
  return batch;
}

void FetchQueue::ExtendBackward(const WantedFrame& first, Duration now,
                                const FetchLimits& limits,
                                std::vector<FrameKey>& keys) {
  uint64_t begin = first.key.offset;
  for (auto at = frames_.find(first.key); at != frames_.begin();) {
    const WantedFrame& frame = (--at)->second;
    if (frame.key.pack != first.key.pack) return;
    if (frame.key.end() > begin) continue;  // overlaps: never of one pack
    if (begin - frame.key.end() > limits.gap_bytes ||
        first.key.end() - frame.key.offset > limits.batch_bytes) {
      return;
    }
    if (frame.failures > 0 || frame.not_before > now ||
        frame.fetch_class > first.fetch_class) {
      continue;
    }
    begin = frame.key.offset;
    keys.push_back(frame.key);
  }
}

void FetchQueue::ExtendForward(const WantedFrame& first, Duration now,
                               const FetchLimits& limits,
                               std::vector<FrameKey>& keys) {
  const FetchClass lowest = std::max(first.fetch_class, FetchClass::kReadAhead);
  const uint64_t begin = keys.back().offset;  // the lowest one so far
  uint64_t end = first.key.end();
  for (auto at = std::next(frames_.find(first.key)); at != frames_.end();
       ++at) {
    const WantedFrame& frame = at->second;
    if (frame.key.pack != first.key.pack) return;
    if (frame.key.offset < end) continue;
    if (frame.key.offset - end > limits.gap_bytes ||
        frame.key.end() - begin > limits.batch_bytes) {
      return;
    }
    if (frame.failures > 0 || frame.not_before > now ||
        frame.fetch_class > lowest) {
      continue;
    }
    end = frame.key.end();
    keys.push_back(frame.key);
  }
}

WantedFrame FetchQueue::Remove(const FrameKey& key) {
  const auto found = frames_.find(key);
  WantedFrame frame = std::move(found->second);
  ranks_.erase(RankOf(frame));
  frames_.erase(found);
  failed_count_ -= frame.failures > 0;
  return frame;
}

std::optional<FetchQueue::Duration> FetchQueue::NextDue(Duration now) const {
  std::optional<Duration> next;
  if (failed_count_ == 0) return next;
  for (const auto& [key, frame] : frames_) {
    if (frame.not_before <= now) continue;
    if (!next || frame.not_before < *next) next = frame.not_before;
  }
  return next;
}

std::vector<WantedFrame> FetchQueue::TakeIf(
    const std::function<bool(const WantedFrame&)>& expired) {
  std::vector<FrameKey> keys;
  for (const auto& [key, frame] : frames_) {
    if (expired(frame)) keys.push_back(key);
  }
  std::vector<WantedFrame> out;
  out.reserve(keys.size());
  for (const FrameKey& key : keys) out.push_back(Remove(key));
  return out;
}

}  // namespace bootstream
