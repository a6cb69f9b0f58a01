#ifndef BLOCKMAP_BASE_PROGRESS_H_
#define BLOCKMAP_BASE_PROGRESS_H_

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace bootstream {

// "1.5 GiB", "12 KiB", "512 B".
std::string FormatBytes(uint64_t bytes);

// How far a long piece of work is, on stderr: one line drawn over and over on a
// terminal, whole lines now and then (every 10 s, and at each new phase) in a
// log.  One thread.
//
//   copy  [==========>         ]  52 %  1.5 GiB of 2.9 GiB  310 MiB/s  4 s left
class Progress {
 public:
  enum class Unit { kBytes, kItems };
  enum class Style { kTerminal, kLog, kSilent };

  // Terminal or log by what `out` is.
  explicit Progress(std::FILE* out = stderr);
  Progress(std::FILE* out, Style style);
  // Finishes what is still going on.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Begin `phase`; `total` 0: not known.  Ends the phase before.
  void Start(std::string phase, uint64_t total, Unit unit = Unit::kBytes);
  // `done` of the total is done; drawn if it is time to.
  void Set(uint64_t done);
  void Add(uint64_t more) { Set(done_ + more); }
  // The phase is over: draw its last state and end the line.
  void Finish();

 private:
  using Clock = std::chrono::steady_clock;
  void Draw(bool last);
  std::string Line(bool last) const;
  std::string Amount(uint64_t amount) const;

  std::FILE* out_;
  Style style_;
  Unit unit_ = Unit::kBytes;
  std::string phase_;
  bool active_ = false;
  uint64_t total_ = 0;
  uint64_t done_ = 0;
  size_t drawn_width_ = 0;
  Clock::time_point began_;
  Clock::time_point next_draw_;
};

}  // namespace bootstream

#endif  // BLOCKMAP_BASE_PROGRESS_H_
