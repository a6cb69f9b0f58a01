#include "initramfs/driver/first_reads.h"

#include <algorithm>
#include <chrono>
#include <limits>

namespace bootstream {

void FirstReads::Add(uint64_t first, uint64_t last, Executor::Duration now) {
  using std::chrono::duration_cast;
  using std::chrono::milliseconds;
  const auto since = duration_cast<milliseconds>(now - start_).count();
  const auto time = static_cast<uint32_t>(
      std::clamp<int64_t>(since, 0, std::numeric_limits<uint32_t>::max()));
  for (uint64_t chunk = first; chunk <= last; ++chunk) {
    if (seen_[chunk]) continue;
    const bool goes_on = !runs_.empty() && runs_.back().time_ms == time &&
                         runs_.back().first + runs_.back().count == chunk;
    if (!goes_on && full()) return;
    seen_[chunk] = true;
    last_added_ = now;
    if (goes_on) {
      ++runs_.back().count;
    } else {
      runs_.push_back({chunk, 1, time});
    }
  }
}

}  // namespace bootstream
