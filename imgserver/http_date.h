#ifndef IMGSERVER_HTTP_DATE_H_
#define IMGSERVER_HTTP_DATE_H_

#include <ctime>
#include <optional>
#include <string>
#include <string_view>

namespace bootstream {

// Dates as HTTP writes them (RFC 9110, section 5.6.7), in seconds since 1970.
// Independent of the locale.

// "Sun, 06 Nov 1994 08:49:37 GMT".  REQUIRES: the year is 1 to 9999.
std::string FormatHttpDate(std::time_t time);

// Any of the three forms that a recipient must know, or nothing.  The name of
// the day is not compared with the date.  The two digits of a year in the
// oldest form mean 1970 to 2069.
std::optional<std::time_t> ParseHttpDate(std::string_view text);

}  // namespace bootstream

#endif  // IMGSERVER_HTTP_DATE_H_
