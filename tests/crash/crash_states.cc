#include "tests/crash/crash_states.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <utility>

#include "blockmap/base/types.h"

namespace bootstream {
namespace {

constexpr uint64_t kNumberedDisksMax = 32;
constexpr uint64_t kPrefixesMax = 64;
// Random states are often alike.
constexpr uint64_t kNumbersForEach = 40;

bool Same(std::span<const std::byte> a, std::span<const std::byte> b) {
  return std::memcmp(a.data(), b.data(), a.size()) == 0;
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

CrashStates::CrashStates(const CrashPoint& point,
                         std::span<const std::byte> disk, uint64_t seed)
    : point_(point), seed_(seed), changing_(point.window.size()) {
  FindSectors(disk);
  CountDisks();
  if (!disk_count_) return;
  order_.resize(*disk_count_);
  std::iota(order_.begin(), order_.end(), 0);
  std::seed_seq words{seed_, point_.clock};
  std::mt19937_64 random(words);
  if (*disk_count_ > kNumberedDisksMax) std::ranges::shuffle(order_, random);
}

void CrashStates::FindSectors(std::span<const std::byte> disk) {
  std::map<uint64_t, Sector> found;
  for (size_t i = 0; i < point_.window.size(); ++i) {
    const Recording::Write& write = *point_.window[i];
    for (uint64_t at = 0; at < write.data.size(); at += kSectorBytes) {
      const auto data = std::span(write.data).subspan(at, kSectorBytes);
      const uint64_t offset = write.offset + at;
      if (Same(data, disk.subspan(offset, kSectorBytes))) continue;
      Sector& sector = found[offset];
      sector.offset = offset;
      const auto known = std::ranges::find_if(
          sector.contents,
          [&](const Content& c) { return Same(c.data, data); });
      if (known == sector.contents.end()) {
        sector.contents.push_back({data, {i}});
      } else {
        known->writes.push_back(i);
      }
      ++changing_[i];
    }
  }
  for (auto& [offset, sector] : found) sectors_.push_back(std::move(sector));
}

void CrashStates::CountDisks() {
  uint64_t count = 1;
  for (const Sector& sector : sectors_) {
    count *= sector.contents.size() + 1;
    if (count > kCountedMax) return;
  }
  disk_count_ = count;
}

uint64_t CrashStates::prefix_count() const {
  return std::min<uint64_t>(point_.window.size() + 1, kPrefixesMax);
}

uint64_t CrashStates::NumbersFor(uint64_t wanted) const {
  if (!disk_count_) return wanted * kNumbersForEach;
  const bool numbered = *disk_count_ <= kNumberedDisksMax;
  return *disk_count_ + (numbered ? 0 : prefix_count());
}

// Each sector's content is a digit of `number`.
CrashState CrashStates::Disk(uint64_t number) const {
  CrashState state;
  std::vector<size_t> arrived(point_.window.size());
  for (const Sector& sector : sectors_) {
    const uint64_t base = sector.contents.size() + 1;
    const uint64_t digit = number % base;
    number /= base;
    if (digit == 0) continue;
    const Content& content = sector.contents[digit - 1];
    state.pieces.push_back({sector.offset, content.data});
    for (const size_t write : content.writes) ++arrived[write];
  }
  for (size_t i = 0; i < arrived.size(); ++i) {
    if (arrived[i] != 0 && arrived[i] != changing_[i]) state.torn = true;
  }
  return state;
}

CrashState CrashStates::Prefix(uint64_t number, std::mt19937_64& random) const {
  const size_t n = point_.window.size();
  size_t kept = number;
  if (number == 1) kept = n;
  if (number > 1) kept = n <= kPrefixesMax ? number - 1 : random() % n;
  Builder builder(point_);
  for (size_t i = 0; i < kept; ++i) builder.Keep(i);
  return builder.Take();
}

CrashState CrashStates::Make(uint64_t number) const {
  if (disk_count_ && *disk_count_ <= kNumberedDisksMax) {
    return Disk(number % *disk_count_);
  }
  std::seed_seq words{seed_, point_.clock, number};
  std::mt19937_64 random(words);
  if (number < prefix_count()) return Prefix(number, random);
  if (!disk_count_) return RandomState(point_, random);
  return Disk(order_[(number - prefix_count()) % *disk_count_]);
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
