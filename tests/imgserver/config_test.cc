#include "imgserver/config.h"

#include <gtest/gtest.h>

#include "imgserver/access_log.h"
#include "imgserver/admission.h"
#include "imgserver/client_address.h"

namespace bootstream {
namespace {

TEST(ConfigTest, NamedKeysReplaceDefaults) {
  const auto config = ParseConfig(R"({"idle_timeout_ms": 7})");
  ASSERT_TRUE(config.has_value());
  EXPECT_EQ(config->idle_timeout_ms, 7U);
  EXPECT_EQ(config->header_bytes_max, ServerConfig{}.header_bytes_max);
}

TEST(ConfigTest, WhatIsNotUnderstoodIsRefusedByName) {
  for (const char* json :
       {R"({"idle_timeout": 7})", R"({"threads": -1})", R"({"threads": 1.5})",
        R"({"threads": "2"})", R"({"connections_max": 0})",
        R"({"header_bytes_max": 99999999999999999999})", "[]", "", "{"}) {
    const auto config = ParseConfig(json);
    ASSERT_FALSE(config.has_value()) << json;
    EXPECT_EQ(config.error().code, ErrorCode::kInvalid);
  }
  const std::string message =
      ParseConfig(R"({"idle_timeout": 7})").error().message;
  EXPECT_NE(message.find("idle_timeout"), std::string::npos);
}

TEST(SocketAddressTest, WrittenAsItWasRead) {
  for (const char* text : {"127.0.0.1:8080", "[::1]:65535", "[::]:0"}) {
    const auto address = ParseSocketAddress(text);
    ASSERT_TRUE(address.has_value()) << text;
    EXPECT_EQ(FormatSocketAddress(*address), text);
  }
  for (const char* text : {"", "8080", ":8080", "127.0.0.1", "127.0.0.1:65536",
                           "::1:80", "localhost:80", "127.0.0.1:80x"}) {
    EXPECT_FALSE(ParseSocketAddress(text).has_value()) << text;
  }
}

TEST(SocketAddressTest, ClientIsAnIpv4AddressOrAnIpv6Network) {
  const auto key = [](const char* text) {
    return ClientKey(*ParseSocketAddress(text));
  };
  EXPECT_EQ(key("192.0.2.1:1"), key("192.0.2.1:2"));
  EXPECT_NE(key("192.0.2.1:1"), key("192.0.2.2:1"));
  EXPECT_EQ(key("192.0.2.1:1"), key("[::ffff:192.0.2.1]:1"));
  EXPECT_EQ(key("[2001:db8::1]:1"), key("[2001:db8::2]:1"));
  EXPECT_NE(key("[2001:db8::1]:1"), key("[2001:db8:0:1::1]:1"));
}

TEST(AdmissionTest, LimitsHoldAndPlacesComeBack) {
  Admission admission(3, 2);
  auto a1 = admission.Enter("a");
  auto a2 = admission.Enter("a");
  EXPECT_TRUE(a1 && a2);
  EXPECT_FALSE(admission.Enter("a").has_value());
  auto b1 = admission.Enter("b");
  EXPECT_TRUE(b1.has_value());
  EXPECT_FALSE(admission.Enter("c").has_value());
  a1.reset();
  EXPECT_TRUE(admission.Enter("a").has_value());
  EXPECT_TRUE(admission.Enter("c").has_value());
}

TEST(AccessLogTest, LineHasNineFieldsWhateverTheTarget) {
  AccessRecord record;
  record.time_ms = 1740830400123;
  record.client = "192.0.2.7:51234";
  record.method = "GET";
  record.target = "/boot/a\"\\\x1b\xff";
  record.range_first = 5;
  record.range_size = 10;
  record.status = 206;
  record.bytes = 310;
  record.duration_us = 1042;
  record.end = "done";
  EXPECT_EQ(FormatAccessLine(record),
            "2025-03-01T12:00:00.123Z 192.0.2.7:51234 GET "
            "/boot/a\\x22\\x5c\\x1b\\xff 5-14 206 310 1.042 done\n");
  EXPECT_EQ(FormatAccessLine(AccessRecord{}),
            "1970-01-01T00:00:00.000Z - - - - 0 0 0.000 -\n");
}

}  // namespace
}  // namespace bootstream
