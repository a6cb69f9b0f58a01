#ifndef BLOCKMAP_IMAGE_FETCH_QUEUE_H_
#define BLOCKMAP_IMAGE_FETCH_QUEUE_H_

#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <vector>

#include "blockmap/base/executor.h"
#include "blockmap/base/types.h"
#include "blockmap/image/chunk_source.h"

// What is to be fetched next, and in how large pieces.  Pure; one thread.

namespace bootstream {

// One frame of a pack: what identifies it and what it must hold.
struct FrameKey {
  uint32_t pack = 0;
  uint64_t offset = 0;
  uint32_t packed_bytes = 0;
  uint32_t content_bytes = 0;
  Sha256 digest{};
  uint64_t end() const { return offset + packed_bytes; }
  auto operator<=>(const FrameKey&) const = default;
};

// A frame that is wanted.
struct WantedFrame {
  FrameKey key;
  FetchClass fetch_class = FetchClass::kDemand;
  std::vector<uint64_t> waiters;  // ids
  uint64_t order = 0;             // first come, first served in a class
  Executor::Duration since{0};
  // What went wrong with this very frame (not with a server as a whole).
  uint32_t failures = 0;
  bool corrupt = false;
  size_t avoid_server = SIZE_MAX;  // that failed last
  Executor::Duration first_failure{0};
  Executor::Duration not_before{0};
};

struct FetchLimits {
  uint64_t batch_bytes = 4 << 20;  // one request, gaps included
  // Between two frames: fetched and thrown away, for one request less.
  uint64_t gap_bytes = 16 << 10;
};

// Frames of one pack to be fetched by one request, ascending.
struct FetchBatch {
  FetchClass fetch_class = FetchClass::kDemand;
  std::vector<WantedFrame> frames;
  uint32_t pack() const { return frames.front().key.pack; }
  uint64_t begin() const { return frames.front().key.offset; }
  uint64_t end() const { return frames.back().key.end(); }
};

class FetchQueue {
 public:
  using Duration = Executor::Duration;

  // Joins a frame that waits already.
  void Add(WantedFrame frame);
  // False if it does not wait here.
  bool Promote(const FrameKey& key, FetchClass fetch_class);

  // The best frame that is due, if its class is `lowest` or better, and its
  // neighbours.  A frame that has failed goes alone.  A better frame never
  // waits for a worse one in front of it: worse neighbours are taken only
  // behind it, and backfill never.
  std::optional<FetchBatch> Take(Duration now, FetchClass lowest,
                                 const FetchLimits& limits);
  // When the earliest frame that is not due yet will be.
  std::optional<Duration> NextDue(Duration now) const;
  // Take out what `expired` says.
  std::vector<WantedFrame> TakeIf(
      const std::function<bool(const WantedFrame&)>& expired);
  // Is a frame of this class or a better one due?
  bool HasDue(Duration now, FetchClass lowest) const;
  // Does a frame of this class or a better one wait, due or not?
  bool Has(FetchClass lowest) const {
    return !ranks_.empty() && std::get<0>(*ranks_.begin()) <= lowest;
  }
  bool empty() const { return frames_.empty(); }
  size_t size() const { return frames_.size(); }

 private:
  using Frames = std::map<FrameKey, WantedFrame>;
  using Rank = std::tuple<FetchClass, uint64_t, FrameKey>;
  static Rank RankOf(const WantedFrame& frame) {
    return {frame.fetch_class, frame.order, frame.key};
  }
  const WantedFrame* Best(Duration now, FetchClass lowest) const;
  void ExtendForward(const WantedFrame& first, Duration now,
                     const FetchLimits& limits, std::vector<FrameKey>& keys);
  void ExtendBackward(const WantedFrame& first, Duration now,
                      const FetchLimits& limits, std::vector<FrameKey>& keys);
  WantedFrame Remove(const FrameKey& key);

  Frames frames_;
  std::set<Rank> ranks_;
  uint64_t next_order_ = 1;
  size_t failed_count_ = 0;  // frames that have failed, here
};

}  // namespace bootstream

#endif  // BLOCKMAP_IMAGE_FETCH_QUEUE_H_
