#ifndef IMGSERVER_BYTE_RANGE_H_
#define IMGSERVER_BYTE_RANGE_H_

#include <cstdint>
#include <string_view>

namespace bootstream {

// What to do about a Range header (RFC 9110, section 14).
enum class RangeKind {
  kWhole,          // answer 200: no range, several, or nonsense
  kPart,           // answer 206
  kUnsatisfiable,  // answer 416: it begins after the last byte
};

struct RangeAnswer {
  RangeKind kind = RangeKind::kWhole;
  uint64_t first = 0;
  uint64_t size = 0;  // bytes; more than 0 and within the file for kPart
};

// The answer to `header`, the value of a Range header, for a file of
// `file_size` bytes.  Pure.  Numbers too large for 64 bits count as the
// largest. An empty file has no part: it is answered whole, or not satisfiable.
RangeAnswer ResolveRange(std::string_view header, uint64_t file_size);

}  // namespace bootstream

#endif  // IMGSERVER_BYTE_RANGE_H_
