#ifndef BLOCKMAP_IMAGE_FETCH_WINDOW_H_
#define BLOCKMAP_IMAGE_FETCH_WINDOW_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "blockmap/base/executor.h"

namespace bootstream {

// How many bytes may be asked for at once, over all connections, so that the
// link is always busy and yet nothing piles up in front of it: neither do the
// windows of many TCP connections overrun the link's queue together, nor does
// what somebody waits for stand behind what nobody does.
//
// The wait for the first byte of a reply is the round trip and what lies in the
// queue.  The least of the last minutes is taken for the round trip; the window
// grows while the rest is below a target, and shrinks above.  Compare LEDBAT
// (RFC 6817), which does this to one connection.  It never grows much beyond
// what the link, at the best rate that was seen, brings in a round trip: more
// would not come earlier, and be lost where the queue is short.  Compare BBR.
//
// Pure; one thread.
class FetchWindow {
 public:
  using Duration = Executor::Duration;
  struct Options {
    uint64_t bytes_start = 2 << 20;
    uint64_t bytes_min = 128 << 10;
    uint64_t bytes_max = 64 << 20;
    Duration target = std::chrono::milliseconds(25);  // in the queue
  };

  explicit FetchWindow(const Options& options)
      : options_(options), bytes_(static_cast<double>(options.bytes_start)) {}

  // The first byte of a reply came so long after its request was sent.
  void OnFirstByte(Duration now, Duration wait);
  // So many bytes have come.  `full`: more would be asked for if it might; a
  // window that nobody fills does not grow.
  void OnReceived(Duration now, uint64_t bytes, bool full);

  uint64_t bytes() const { return static_cast<uint64_t>(bytes_); }
  // What the link brings in a moment; 0: not known.  Larger replies come in
  // bursts that its queue may not hold.
  uint64_t burst_bytes() const;
  // The window of what is to leave the queue empty, and a part of the link free
  // for somebody who waits.
  uint64_t gentle_bytes() const;
  // The round trip without a queue; 0: not known.
  Duration round_trip() const;

 private:
  // RFC 6817 remembers ten minutes.
  static constexpr size_t kMinutes = 10;
  // A burst of replies makes a queue that is gone a moment later, and a server
  // may hesitate: what all the replies of a round trip wait for is a queue, if
  // there are enough of them.
  static constexpr size_t kSamples = 4;

  struct Waits {
    Duration begin{0};
    Duration least{0};
    size_t count = 0;
  };

  void NoteWait(Duration now, Duration wait);
  Duration Queue() const;
  Duration StandingQueue() const;
  void NoteRate(Duration now, uint64_t bytes, bool full);
  double Ceiling() const;
  void Resize(double bytes);

  Options options_;
  double bytes_;
  bool starting_ = true;  // neither a queue nor the link's rate has been met
  int64_t minute_ = -1;
  std::array<Duration, kMinutes> least_{};    // of the last minutes; 0: none
  std::array<Duration, kSamples> samples_{};  // the last ones; 0: none
  size_t next_sample_ = 0;
  Waits waits_;            // since a round trip ago at most
  Duration last_wait_{0};  // the least of the round trip before; 0: none
  // What came since `span_begin_`; the best rate of such spans, bytes a second.
  Duration span_begin_{0};
  uint64_t span_bytes_ = 0;
  bool span_full_ = true;
  double best_rate_ = 0;
  unsigned no_better_ = 0;  // spans
};

}  // namespace bootstream

#endif  // BLOCKMAP_IMAGE_FETCH_WINDOW_H_
