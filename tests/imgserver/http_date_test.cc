#include "imgserver/http_date.h"

#include <gtest/gtest.h>

namespace bootstream {
namespace {

// The example of RFC 9110, section 5.6.7.
constexpr std::time_t kExample = 784111777;

TEST(HttpDateTest, WritesThePreferredForm) {
  EXPECT_EQ(FormatHttpDate(kExample), "Sun, 06 Nov 1994 08:49:37 GMT");
  EXPECT_EQ(FormatHttpDate(0), "Thu, 01 Jan 1970 00:00:00 GMT");
}

TEST(HttpDateTest, ReadsAllThreeForms) {
  EXPECT_EQ(ParseHttpDate("Sun, 06 Nov 1994 08:49:37 GMT"), kExample);
  EXPECT_EQ(ParseHttpDate("Sunday, 06-Nov-94 08:49:37 GMT"), kExample);
  EXPECT_EQ(ParseHttpDate("Sun Nov  6 08:49:37 1994"), kExample);
  EXPECT_EQ(ParseHttpDate("Wed Nov 16 08:49:37 1994"),
            kExample + int64_t{10} * 24 * 3600);
}

TEST(HttpDateTest, WhatItWritesItReads) {
  for (std::time_t t = 1; t < std::time_t{1} << 36; t = t * 3 + 7) {
    EXPECT_EQ(ParseHttpDate(FormatHttpDate(t)), t);
  }
}

TEST(HttpDateTest, RefusesWhatIsNoDate) {
  for (const char* text :
       {"", ",", "Sun, ", "Sun, 06 Nov 1994 08:49:37", "\"etag\"",
        "Sun, 06 Nov 1994 08:49:37 GMT ", "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nop 1994 08:49:37 GMT", "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:3 GMT", "Sun Nov  6 08:49:37 94", "Sun",
        "Sun, 06 Nov 1994 08:49:37 UTC"}) {
    EXPECT_EQ(ParseHttpDate(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace bootstream
