#include "tests/crash/crash_states.h"

#include <algorithm>
#include <cstring>
#include <random>

#include "blockmap/base/types.h"

namespace bootstream {
namespace {

constexpr uint64_t kEnumeratedSectorsMax = 5;
constexpr uint64_t kPrefixesMax = 64;

uint64_t SectorsOf(const CrashPoint& point) {
  uint64_t sectors = 0;
  for (const auto* write : point.window) {
    sectors += write->data.size() / kSectorBytes;
  }
  return sectors;
}

bool Overlaps(const CrashPoint& point) {
  std::vector<ByteExtent> ranges;
  for (const auto* write : point.window) {
    ranges.push_back({write->offset, write->data.size()});
  }
  std::ranges::sort(ranges);
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i - 1].end() > ranges[i].offset) return true;
  }
  return false;
}

class Builder {
 public:
  explicit Builder(const CrashPoint& point) : window_(point.window) {}

  void Keep(size_t i) {
    state_.pieces.push_back({window_[i]->offset, window_[i]->data});
  }
  // Every `unit` of the write that `pick` wants.
  template <typename Pick>
  void Tear(size_t i, uint64_t unit, Pick pick) {
    const std::span<const std::byte> data = window_[i]->data;
    bool some = false;
    bool all = true;
    for (uint64_t at = 0; at < data.size();) {
      const uint64_t on_disk = window_[i]->offset + at;
      const uint64_t size =
          std::min<uint64_t>(unit - on_disk % unit, data.size() - at);
      if (pick()) {
        state_.pieces.push_back({on_disk, data.subspan(at, size)});
        some = true;
      } else {
        all = false;
      }
      at += size;
    }
    if (some && !all) state_.torn = true;
  }
  void Shuffle(std::mt19937_64& random) {
    std::shuffle(state_.pieces.begin(), state_.pieces.end(), random);
  }
  size_t size() const { return window_.size(); }
  CrashState Take() { return std::move(state_); }

 private:
  const std::vector<const Recording::Write*>& window_;
  CrashState state_;
};

// The sectors whose bits are set, counted over the whole window.
CrashState Enumerated(const CrashPoint& point, uint64_t mask) {
  Builder builder(point);
  for (size_t i = 0; i < builder.size(); ++i) {
    builder.Tear(i, kSectorBytes, [&] {
      const bool kept = (mask & 1) != 0;
      mask >>= 1;
      return kept;
    });
  }
  return builder.Take();
}

CrashState RandomState(const CrashPoint& point, std::mt19937_64& random) {
  Builder builder(point);
  const size_t n = builder.size();
  const uint64_t style = random() % 8;
  const size_t chosen = random() % n;
  const auto half = [&] { return random() % 2 == 0; };
  const auto most = [&] { return random() % 8 != 0; };
  for (size_t i = 0; i < n; ++i) {
    switch (style) {
      case 0:  // any of them, whole
        if (half()) builder.Keep(i);
        break;
      case 1:  // all but one
        if (i == chosen) {
          builder.Tear(i, kSectorBytes, half);
        } else {
          builder.Keep(i);
        }
        break;
      case 2:  // one only, or most of it
        if (i == chosen) builder.Tear(i, kSectorBytes, most);
        break;
      case 3: {  // up to somewhere inside one
        uint64_t left = random() % (point.window[i]->data.size() / 512 + 1);
        if (i < chosen) builder.Keep(i);
        if (i == chosen) {
          builder.Tear(i, kSectorBytes, [&] { return left > 0 && left-- > 0; });
        }
        break;
      }
      case 4:
        builder.Tear(i, kBlockBytes, half);
        break;
      default: {  // each its own fate
        const uint64_t fate = random() % 4;
        if (fate == 0) builder.Keep(i);
        if (fate == 1) builder.Tear(i, kSectorBytes, half);
        if (fate == 2) builder.Tear(i, kBlockBytes, half);
        break;
      }
    }
  }
  if (style >= 6) builder.Shuffle(random);
  return builder.Take();
}

}  // namespace

std::vector<CrashPoint> CrashPointsOf(const Recording& recording) {
  std::vector<CrashPoint> points;
  uint64_t durable = 0;
  const auto add = [&](uint64_t clock) {
    CrashPoint point{clock, durable, {}};
    for (uint64_t i = durable; i < recording.writes.size(); ++i) {
      const auto& write = recording.writes[i];
      if (write.submitted < clock) point.window.push_back(&write);
    }
    points.push_back(std::move(point));
  };
  for (const auto& flush : recording.flushes) {
    add(flush.done);
    durable = std::max(durable, flush.covers);
  }
  add(recording.end);
  return points;
}

uint64_t StateCount(const CrashPoint& point) {
  const uint64_t sectors = SectorsOf(point);
  if (sectors > kEnumeratedSectorsMax || Overlaps(point)) {
    return ~uint64_t{0};
  }
  return uint64_t{1} << sectors;
}

CrashState MakeState(const CrashPoint& point, uint64_t number, uint64_t seed) {
  const uint64_t count = StateCount(point);
  if (count != ~uint64_t{0}) {
    return Enumerated(point, number % count);
  }
  const size_t n = point.window.size();
  std::seed_seq words{seed, point.clock, number};
  std::mt19937_64 random(words);
  const uint64_t prefixes = std::min<uint64_t>(n + 1, kPrefixesMax);
  if (number >= prefixes) return RandomState(point, random);
  size_t kept = number;
  if (number == 1) kept = n;
  if (number > 1) kept = n <= kPrefixesMax ? number - 1 : random() % n;
  Builder builder(point);
  for (size_t i = 0; i < kept; ++i) builder.Keep(i);
  return builder.Take();
}

uint64_t SectorHash(uint64_t sector, std::span<const std::byte> bytes) {
  uint64_t hash = (sector + 1) * 0x9e3779b97f4a7c15;
  for (size_t at = 0; at < bytes.size(); at += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at,
                std::min(sizeof word, bytes.size() - at));
    hash = (hash ^ word) * 0xff51afd7ed558ccd;
    hash ^= hash >> 32;
  }
  return hash * 0xc4ceb9fe1a85ec53;
}

}  // namespace bootstream
