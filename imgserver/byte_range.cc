#include "imgserver/byte_range.h"

#include <algorithm>
#include <limits>
#include <optional>

namespace bootstream {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

std::string_view Trim(std::string_view text) {
  const auto is_space = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

// One or more digits, saturating.
std::optional<uint64_t> ParseNumber(std::string_view text) {
  if (text.empty()) return std::nullopt;
  uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    const uint64_t digit = static_cast<uint64_t>(c - '0');
    value = value > (kMax - digit) / 10 ? kMax : value * 10 + digit;
  }
  return value;
}

// The text after "bytes=", or nothing for another unit.
std::optional<std::string_view> AfterUnit(std::string_view header) {
  constexpr std::string_view kUnit = "bytes=";
  if (header.size() < kUnit.size()) return std::nullopt;
  for (size_t i = 0; i < kUnit.size(); ++i) {
    const char c = header[i];
    const char lower = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    if (lower != kUnit[i]) return std::nullopt;
  }
  return Trim(header.substr(kUnit.size()));
}

RangeAnswer LastBytes(uint64_t count, uint64_t file_size) {
  if (count == 0) return {RangeKind::kUnsatisfiable, 0, 0};
  if (file_size == 0) return {};
  const uint64_t size = std::min(count, file_size);
  return {RangeKind::kPart, file_size - size, size};
}

}  // namespace

RangeAnswer ResolveRange(std::string_view header, uint64_t file_size) {
  const auto spec = AfterUnit(header);
  if (!spec) return {};
  // A comma makes a list, and a number does not hold one: answered whole.
  const size_t dash = spec->find('-');
  if (dash == std::string_view::npos) return {};
  const std::string_view before = spec->substr(0, dash);
  const std::string_view after = spec->substr(dash + 1);

  if (before.empty()) {
    const auto count = ParseNumber(after);
    return count ? LastBytes(*count, file_size) : RangeAnswer{};
  }
  const auto first = ParseNumber(before);
  const auto last = after.empty() ? kMax : ParseNumber(after);
  if (!first || !last || *first > *last) return {};
  if (*first >= file_size) return {RangeKind::kUnsatisfiable, 0, 0};
  const uint64_t end = std::min(*last, file_size - 1);
  return {RangeKind::kPart, *first, end - *first + 1};
}

}  // namespace bootstream
