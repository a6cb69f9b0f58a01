#include "initramfs/driver/read_ahead.h"

#include <algorithm>
#include <utility>

namespace bootstream {
namespace {

// Requests of one stream may overtake each other by so much.
constexpr uint64_t kSlackChunks = 32;

}  // namespace

std::optional<ChunkExtent> ReadAhead::Note(uint64_t first, uint64_t last,
                                           bool missed) {
  if (window_max_ == 0) return std::nullopt;
  Stream* const stream = Find(first, last);
  if (!missed && (stream == nullptr || stream->window == 0)) {
    return std::nullopt;
  }
  if (stream == nullptr) {
    Begin(last);
    return std::nullopt;
  }
  stream->last_use = ++uses_;
  if (last < stream->next) return std::nullopt;  // nothing new
  stream->next = last + 1;
  stream->fetched = std::max(stream->fetched, stream->next);
  if (stream->window == 0) {
    const uint64_t request = last - first + 1;
    stream->window = std::min(std::max(kWindowMin, 2 * request), window_max_);
  } else if (stream->fetched - stream->next > stream->window / 4 * 3) {
    return std::nullopt;  // enough is under way
  } else {
    const bool small = stream->window < window_max_ / 16;
    stream->window = std::min(stream->window * (small ? 4 : 2), window_max_);
  }
  const uint64_t until = stream->next + stream->window;
  const uint64_t from = std::exchange(stream->fetched, until);
  return ChunkExtent{from, until - from};
}

// A stream goes on where it has been, or a little before or behind.
ReadAhead::Stream* ReadAhead::Find(uint64_t first, uint64_t last) {
  for (Stream& stream : streams_) {
    if (stream.last_use == 0) continue;
    const uint64_t slack = stream.window == 0 ? 0 : kSlackChunks;
    if (first <= stream.next + slack && stream.next <= last + 1 + slack) {
      return &stream;
    }
  }
  return nullptr;
}

void ReadAhead::Begin(uint64_t last) {
  Stream& oldest = *std::min_element(
      streams_.begin(), streams_.end(),
      [](const auto& a, const auto& b) { return a.last_use < b.last_use; });
  oldest = Stream{last + 1, last + 1, 0, ++uses_};
}

}  // namespace bootstream
