#ifndef IMGSERVER_BOOT_TRACE_H_
#define IMGSERVER_BOOT_TRACE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "blockmap/base/result.h"

namespace bootstream {

// One read of a watched boot.
struct TraceRead {
  uint64_t ms = 0;  // since the machine was started
  uint64_t offset = 0;
  uint64_t size = 0;
  bool operator==(const TraceRead&) const = default;
};

// The `firmware` of what a machine has read over the streaming driver, from its
// take-over on (streamctl trace).
inline constexpr const char* kFromStreamed = "streamed";

// Everything a machine read from its disk while it booted (imgserver/trace.md).
struct BootTrace {
  uint64_t disk_bytes = 0;
  std::string firmware;  // "uefi", "bios" or kFromStreamed
  std::vector<TraceRead> reads;
  bool operator==(const BootTrace&) const = default;
};

std::string FormatTrace(const BootTrace& trace);
// kInvalid: not a trace, with the line that is wrong.
Result<BootTrace> ParseTrace(const std::string& text);

// The read with which the streaming driver takes the disk over: the first of
// three 4 KiB reads of the anchor's candidates in the order A, B, A.  Reads of
// other places, and a second one of the same, do not matter.
std::optional<size_t> FindTakeOver(const BootTrace& trace);

}  // namespace bootstream

#endif  // IMGSERVER_BOOT_TRACE_H_
