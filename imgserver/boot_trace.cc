#include "imgserver/boot_trace.h"

#include <array>
#include <nlohmann/json.hpp>
#include <sstream>

#include "blockmap/map/superblock.h"

namespace bootstream {
namespace {

constexpr const char* kFormat = "bootstream-trace 1";
using Json = nlohmann::ordered_json;

Error WrongLine(size_t number) {
  return Error{ErrorCode::kInvalid,
               "trace: line " + std::to_string(number) +
                   " is not what it should be; record the trace again"};
}

// `json[key]` as an unsigned number.
std::optional<uint64_t> Number(const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_number_unsigned()) return std::nullopt;
  return found->get<uint64_t>();
}

std::optional<TraceRead> ParseRead(const std::string& line, uint64_t disk) {
  const Json json = Json::parse(line, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  const auto ms = Number(json, "ms");
  const auto offset = Number(json, "offset");
  const auto size = Number(json, "size");
  if (!ms || !offset || !size || *size == 0 || *offset >= disk ||
      *size > disk - *offset) {
    return std::nullopt;
  }
  return TraceRead{*ms, *offset, *size};
}

}  // namespace

std::string FormatTrace(const BootTrace& trace) {
  std::string out = Json{{"format", kFormat},
                         {"disk_bytes", trace.disk_bytes},
                         {"firmware", trace.firmware}}
                        .dump() +
                    "\n";
  for (const TraceRead& read : trace.reads) {
    out += Json{{"ms", read.ms}, {"offset", read.offset}, {"size", read.size}}
               .dump() +
           "\n";
  }
  return out;
}

Result<BootTrace> ParseTrace(const std::string& text) {
  std::istringstream lines(text);
  std::string line;
  std::getline(lines, line);
  const Json header = Json::parse(line, nullptr, false);
  const auto format = header.is_object() ? header.find("format") : header.end();
  if (format == header.end() || *format != kFormat) {
    return Error{ErrorCode::kInvalid,
                 "trace: not written by 'imgtool trace' of this version"};
  }
  const auto disk_bytes = Number(header, "disk_bytes");
  const auto firmware = header.find("firmware");
  if (!disk_bytes || firmware == header.end() || !firmware->is_string()) {
    return WrongLine(1);
  }
  BootTrace trace{*disk_bytes, firmware->get<std::string>(), {}};
  for (size_t number = 2; std::getline(lines, line); ++number) {
    const auto read = ParseRead(line, *disk_bytes);
    if (!read) return WrongLine(number);
    trace.reads.push_back(*read);
  }
  return trace;
}

std::optional<size_t> FindTakeOver(const BootTrace& trace) {
  const auto [a, b] = AnchorCandidates(trace.disk_bytes);
  const std::array<uint64_t, 3> order = {a, b, a};
  size_t matched = 0;
  size_t first = 0;
  for (size_t i = 0; i < trace.reads.size(); ++i) {
    const TraceRead& read = trace.reads[i];
    if (read.size != kAnchorBytes || (read.offset != a && read.offset != b)) {
      continue;
    }
    // The same place once more, by whoever: as if it had been read once.
    if (matched > 0 && read.offset == order[matched - 1]) continue;
    if (read.offset != order[matched]) matched = 0;
    if (read.offset != order[matched]) continue;
    if (matched == 0) first = i;
    if (++matched == order.size()) return first;
  }
  return std::nullopt;
}

}  // namespace bootstream
