#include "imgserver/http_date.h"

#include <array>
#include <cstdio>

namespace bootstream {
namespace {

constexpr std::array<std::string_view, 7> kDays = {"Sun", "Mon", "Tue", "Wed",
                                                   "Thu", "Fri", "Sat"};
constexpr std::array<std::string_view, 12> kMonths = {
    "Jan", "Feb", "Mar", "Apr", "May", "Jun",
    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

// Takes a date apart by a pattern: X the century, Y the year in it, M the
// month's three letters, D the day, H the hour, I the minute, C the second, all
// of two digits; S a day whose first digit may be a space; everything else
// itself.
bool Match(std::string_view text, std::string_view pattern, std::tm& out) {
  const auto number = [&](size_t count, int& value) {
    if (text.size() < count) return false;
    value = 0;
    for (size_t i = 0; i < count; ++i) {
      if (text[i] < '0' || text[i] > '9') return false;
      value = value * 10 + (text[i] - '0');
    }
    text.remove_prefix(count);
    return true;
  };
  const auto month = [&] {
    for (size_t i = 0; i < kMonths.size(); ++i) {
      if (!text.starts_with(kMonths[i])) continue;
      out.tm_mon = static_cast<int>(i);
      text.remove_prefix(3);
      return true;
    }
    return false;
  };
  int century = 0;
  int year = 0;
  for (const char c : pattern) {
    bool ok = false;
    switch (c) {
      case 'S':
        if (text.starts_with(' ')) {
          text.remove_prefix(1);
          ok = number(1, out.tm_mday);
          break;
        }
        [[fallthrough]];
      case 'D':
        ok = number(2, out.tm_mday);
        break;
      case 'M':
        ok = month();
        break;
      case 'X':
        ok = number(2, century);
        break;
      case 'Y':
        ok = number(2, year);
        break;
      case 'H':
        ok = number(2, out.tm_hour);
        break;
      case 'I':
        ok = number(2, out.tm_min);
        break;
      case 'C':
        ok = number(2, out.tm_sec);
        break;
      default:
        ok = text.starts_with(c);
        if (ok) text.remove_prefix(1);
    }
    if (!ok) return false;
  }
  if (pattern.find('X') == std::string_view::npos) {
    century = year < 70 ? 20 : 19;
  }
  out.tm_year = century * 100 + year - 1900;
  return text.empty();
}

bool IsSane(const std::tm& t) {
  return t.tm_mday >= 1 && t.tm_mday <= 31 && t.tm_hour < 24 && t.tm_min < 60 &&
         t.tm_sec <= 60;
}

}  // namespace

std::string FormatHttpDate(std::time_t time) {
  std::tm t{};
  ::gmtime_r(&time, &t);
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(),
                "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT",
                kDays[static_cast<size_t>(t.tm_wday)].data(), t.tm_mday,
                kMonths[static_cast<size_t>(t.tm_mon)].data(), t.tm_year + 1900,
                t.tm_hour, t.tm_min, t.tm_sec);
  return text.data();
}

std::optional<std::time_t> ParseHttpDate(std::string_view text) {
  std::tm t{};
  const size_t comma = text.find(',');
  bool ok = false;
  if (comma == std::string_view::npos) {
    // asctime: "Sun Nov  6 08:49:37 1994"
    ok = text.size() > 3 && Match(text.substr(3), " M S H:I:C XY", t);
  } else {
    // "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT"
    constexpr std::string_view kZone = " GMT";
    std::string_view rest = text.substr(comma + 1);
    if (!rest.ends_with(kZone)) return std::nullopt;
    rest.remove_suffix(kZone.size());
    ok = Match(rest, " D M XY H:I:C", t);
    if (!ok) {
      t = {};
      ok = Match(rest, " D-M-Y H:I:C", t);
    }
  }
  if (!ok || !IsSane(t)) return std::nullopt;
  return ::timegm(&t);
}

}  // namespace bootstream
