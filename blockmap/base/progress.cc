#include "blockmap/base/progress.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

namespace bootstream {
namespace {

constexpr auto kTerminalInterval = std::chrono::milliseconds(100);
constexpr auto kLogInterval = std::chrono::seconds(10);
constexpr size_t kBarWidth = 20;

std::string Bar(double share) {
  const auto full = static_cast<size_t>(share * kBarWidth);
  std::string bar(kBarWidth, ' ');
  std::fill_n(bar.begin(), full, '=');
  if (full < kBarWidth) bar[full] = '>';
  return "[" + bar + "]";
}

}  // namespace

std::string FormatBytes(uint64_t bytes) {
  static constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  std::array<char, 32> text{};
  const bool whole = unit == 0 || value >= 100;
  std::snprintf(text.data(), text.size(), whole ? "%.0f %s" : "%.1f %s", value,
                kUnits[unit]);
  return text.data();
}

Progress::Progress(std::FILE* out)
    : Progress(out, ::isatty(::fileno(out)) ? Style::kTerminal : Style::kLog) {}

Progress::Progress(std::FILE* out, Style style) : out_(out), style_(style) {}

Progress::~Progress() { Finish(); }

void Progress::Start(std::string phase, uint64_t total, Unit unit) {
  Finish();
  phase_ = std::move(phase);
  total_ = total;
  unit_ = unit;
  done_ = 0;
  active_ = true;
  began_ = Clock::now();
  next_draw_ = began_;
  if (style_ == Style::kLog) next_draw_ += kLogInterval;
  if (style_ == Style::kTerminal) Draw(false);
}

void Progress::Set(uint64_t done) {
  done_ = done;
  if (!active_ || style_ == Style::kSilent || Clock::now() < next_draw_) return;
  Draw(false);
}

void Progress::Finish() {
  if (std::exchange(active_, false)) Draw(true);
}

void Progress::Draw(bool last) {
  if (style_ == Style::kSilent) return;
  std::string line = Line(last);
  if (style_ == Style::kLog) {
    std::fprintf(out_, "%s\n", line.c_str());
    next_draw_ = Clock::now() + kLogInterval;
  } else {
    const size_t width = line.size();
    if (width < drawn_width_) line.append(drawn_width_ - width, ' ');
    std::fprintf(out_, "\r%s%s", line.c_str(), last ? "\n" : "");
    drawn_width_ = last ? 0 : width;
    next_draw_ = Clock::now() + kTerminalInterval;
  }
  std::fflush(out_);
}

std::string Progress::Amount(uint64_t amount) const {
  return unit_ == Unit::kBytes ? FormatBytes(amount) : std::to_string(amount);
}

std::string Progress::Line(bool last) const {
  const double seconds =
      std::chrono::duration<double>(Clock::now() - began_).count();
  const double rate = seconds > 0 ? static_cast<double>(done_) / seconds : 0;
  std::string line = phase_ + "  ";
  if (total_ > 0) {
    const double share =
        std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_));
    if (style_ == Style::kTerminal) line += Bar(share) + "  ";
    line += std::to_string(static_cast<int>(share * 100)) + " %  " +
            Amount(done_) + " of " + Amount(total_);
  } else {
    line += Amount(done_);
  }
  if (unit_ == Unit::kBytes && rate >= 1) {
    line += "  " + FormatBytes(static_cast<uint64_t>(rate)) + "/s";
  }
  std::array<char, 32> text{};
  if (last) {
    std::snprintf(text.data(), text.size(), "  %.1f s", seconds);
  } else if (total_ > done_ && rate > 0) {
    std::snprintf(text.data(), text.size(), "  %.0f s left",
                  static_cast<double>(total_ - done_) / rate);
  }
  return line + text.data();
}

}  // namespace bootstream
