#include "blockmap/image/fetch_window.h"

#include <algorithm>

namespace bootstream {
namespace {

using Duration = FetchWindow::Duration;

constexpr Duration kSpanMin = std::chrono::milliseconds(50);
// So much more than what a round trip brings may be asked for; and while the
// rate still rises, it rises so fast.
constexpr double kCeiling = 1.4;
// Of the link's rate in a round trip, when the first queue has been met.
constexpr double kAfterStart = 1.1;
// A reply that the link takes so long for leaves room in the queue for others.
constexpr std::chrono::milliseconds kBurst(10);
// What is left of the link while somebody waits.
constexpr double kGentleShare = 0.9;
// The link's rate has been met when it rises less than this, so many times.
constexpr double kBetter = 1.1;
constexpr unsigned kNoBetterMax = 4;
// A rate that is not reached again is forgotten.
constexpr double kForget = 0.9;

// The least that is known; 0: nothing is.
template <size_t N>
Duration Least(const std::array<Duration, N>& durations) {
  Duration least(0);
  for (const Duration it : durations) {
    if (it > Duration(0) && (least == Duration(0) || it < least)) least = it;
  }
  return least;
}

double Ratio(Duration a, Duration b) {
  return static_cast<double>(a.count()) / static_cast<double>(b.count());
}

double Seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

void FetchWindow::OnFirstByte(Duration now, Duration wait) {
  wait = std::max(wait, Duration(1));
  const int64_t minute = std::chrono::floor<std::chrono::minutes>(now).count();
  const auto slot_of = [](int64_t number) {
    return static_cast<size_t>(number % int64_t{kMinutes});
  };
  minute_ =
      minute_ < 0 ? minute : std::max(minute_, minute - int64_t{kMinutes});
  while (minute_ < minute) least_[slot_of(++minute_)] = Duration(0);
  Duration& least = least_[slot_of(minute)];
  least = least == Duration(0) ? wait : std::min(least, wait);
  samples_[next_sample_] = wait;
  next_sample_ = (next_sample_ + 1) % kSamples;
  NoteWait(now, wait);
}

Duration FetchWindow::round_trip() const { return Least(least_); }

void FetchWindow::NoteWait(Duration now, Duration wait) {
  if (waits_.count == 0) waits_ = {now, wait, 0};
  ++waits_.count;
  waits_.least = std::min(waits_.least, wait);
  if (waits_.count < kSamples || now - waits_.begin < round_trip()) return;
  last_wait_ = waits_.least;
  waits_.count = 0;
}

// What the last replies have all waited for, at least.
Duration FetchWindow::Queue() const {
  return std::max(Least(samples_) - round_trip(), Duration(0));
}

// What all replies of a round trip have waited for.
Duration FetchWindow::StandingQueue() const {
  const Duration least =
      waits_.count == 0 ? last_wait_ : std::min(last_wait_, waits_.least);
  return std::max(least - round_trip(), Duration(0));
}

// Once a queue has been met, a whole window brings half a target's worth of
// queue at most: what is done now is seen a round trip later.
void FetchWindow::OnReceived(Duration now, uint64_t bytes, bool full) {
  NoteRate(now, bytes, full);
  const Duration queue = Queue();
  if (starting_ && StandingQueue() > options_.target / 2) {
    starting_ = false;
    Resize(std::min(bytes_, kAfterStart * best_rate_ * Seconds(round_trip())));
  }
  const double off =
      starting_ ? 1.0
                : std::clamp(Ratio(options_.target - queue, options_.target),
                             -1.0, 1.0);
  if (off > 0 && !full) return;
  const Duration trip = round_trip() + options_.target;
  const double gain = starting_ ? 1.0 : Ratio(options_.target, 2 * trip);
  const double share = std::min(static_cast<double>(bytes) / bytes_, 1.0);
  // What the link brings in a round trip leaves no queue: what is late then is
  // late for another reason.
  const double floor = best_rate_ * Seconds(round_trip());
  Resize(std::clamp(bytes_ * (1 + gain * off * share), floor, Ceiling()));
}

void FetchWindow::NoteRate(Duration now, uint64_t bytes, bool full) {
  if (span_begin_ == Duration(0)) span_begin_ = now;
  span_bytes_ += bytes;
  span_full_ &= full;
  const Duration span = now - span_begin_;
  if (span < std::max(kSpanMin, round_trip())) return;
  const double rate = static_cast<double>(span_bytes_) / Seconds(span);
  if (span_full_) {
    no_better_ = rate > best_rate_ * kBetter ? 0 : no_better_ + 1;
    if (no_better_ >= kNoBetterMax) starting_ = false;
    best_rate_ *= kForget;
  }
  best_rate_ = std::max(best_rate_, rate);
  span_begin_ = now;
  span_bytes_ = 0;
  span_full_ = true;
}

double FetchWindow::Ceiling() const {
  const double bytes =
      best_rate_ * Seconds(round_trip() + options_.target) * kCeiling;
  return std::max(bytes, static_cast<double>(options_.bytes_start));
}

uint64_t FetchWindow::burst_bytes() const {
  return static_cast<uint64_t>(best_rate_ * Seconds(kBurst));
}

uint64_t FetchWindow::gentle_bytes() const {
  if (starting_) return bytes();
  const double bytes = kGentleShare * best_rate_ * Seconds(round_trip());
  return static_cast<uint64_t>(
      std::clamp(bytes, static_cast<double>(options_.bytes_min), bytes_));
}

void FetchWindow::Resize(double bytes) {
  bytes_ = std::clamp(bytes, static_cast<double>(options_.bytes_min),
                      static_cast<double>(options_.bytes_max));
}

}  // namespace bootstream
