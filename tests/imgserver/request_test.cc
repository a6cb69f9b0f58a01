#include "imgserver/request.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace bootstream {
namespace {

int StatusOf(const std::string& text) {
  const auto request = ParseRequest(text);
  return request ? 200 : request.error().status;
}

TEST(RequestTest, FieldsAreFoundWhateverTheirCase) {
  const std::string text =
      "GET /boot/x HTTP/1.1\r\nhOST: a\r\nrange:  bytes=0-1 \r\n"
      "If-Range: \"t\"\r\n\r\n";
  const auto request = ParseRequest(text);
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(request->method, "GET");
  EXPECT_EQ(request->target, "/boot/x");
  EXPECT_EQ(request->range, "bytes=0-1");
  EXPECT_EQ(request->if_range, "\"t\"");
  EXPECT_EQ(request->if_none_match.data(), nullptr);
  EXPECT_TRUE(request->keep_alive);
  EXPECT_FALSE(request->has_body);
}

TEST(RequestTest, KeepAliveFollowsVersionAndConnection) {
  EXPECT_FALSE(ParseRequest("GET / HTTP/1.0\r\n\r\n")->keep_alive);
  EXPECT_TRUE(ParseRequest("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                  ->keep_alive);
  EXPECT_FALSE(
      ParseRequest("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
          ->keep_alive);
}

TEST(RequestTest, BodiesAreNoticed) {
  const std::string head = "GET / HTTP/1.1\r\nHost: a\r\n";
  EXPECT_TRUE(ParseRequest(head + "Content-Length: 5\r\n\r\n")->has_body);
  EXPECT_FALSE(ParseRequest(head + "Content-Length: 0\r\n\r\n")->has_body);
  EXPECT_EQ(StatusOf(head + "Transfer-Encoding: chunked\r\n\r\n"), 400);
  EXPECT_EQ(StatusOf(head + "Content-Length: -1\r\n\r\n"), 400);
  EXPECT_EQ(StatusOf(head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n"),
            400);
}

TEST(RequestTest, AmbiguousHeadersAreRefused) {
  const std::string head = "GET / HTTP/1.1\r\n";
  EXPECT_EQ(StatusOf(head + "\r\n"), 400) << "no Host";
  EXPECT_EQ(StatusOf(head + "Host: a\r\nHost: a\r\n\r\n"), 400);
  EXPECT_EQ(StatusOf(head + "Host: a\r\nX: 1\r\n 2\r\n\r\n"), 400);
  EXPECT_EQ(StatusOf(head + "Host: a\r\nHost : a\r\n\r\n"), 400);
  EXPECT_EQ(StatusOf(head + "Host: a\r\nRange: x\r\nRange: x\r\n\r\n"), 400);
}

TEST(RequestTest, WhatIsNoRequestIsRefused) {
  for (const char* text :
       {"\r\n\r\n", "GET\r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/1.1 \r\n\r\n",
        "G@T / HTTP/1.1\r\nHost: a\r\n\r\n", "GET /\x01 HTTP/1.1\r\n\r\n",
        "GET / HTTX/1.1\r\n\r\n", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\r\n\r\n"}) {
    EXPECT_EQ(StatusOf(text), 400) << text;
  }
  EXPECT_EQ(StatusOf("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 505);
}

TEST(RequestTest, EndIsFoundHoweverTheHeaderIsSplit) {
  const std::string text = "GET / HTTP/1.1\r\nA: b\r\n\r\nrest";
  const size_t end = text.size() - 4;
  for (size_t first = 0; first <= text.size(); ++first) {
    size_t checked = 0;
    const auto early = FindHeaderEnd(text.substr(0, first), checked);
    EXPECT_EQ(early.has_value(), first >= end);
    EXPECT_EQ(FindHeaderEnd(text, checked), end) << first;
  }
}

TEST(RequestTest, DamagedHeadersAreAnsweredNotTrusted) {
  const std::string whole =
      "GET /packs/ab/x HTTP/1.1\r\nHost: a\r\nRange: bytes=1-2\r\n"
      "Content-Length: 0\r\nConnection: keep-alive\r\n\r\n";
  std::mt19937 random(1);
  for (int i = 0; i < 20000; ++i) {
    std::string text = whole;
    for (int flips = 0; flips <= i % 4; ++flips) {
      text[random() % text.size()] = static_cast<char>(random());
    }
    const auto request = ParseRequest(text);
    if (!request) {
      EXPECT_GE(request.error().status, 400);
      continue;
    }
    EXPECT_FALSE(request->target.empty());
    EXPECT_GE(request->target.data(), text.data());
    EXPECT_LE(request->target.data() + request->target.size(),
              text.data() + text.size());
  }
}

}  // namespace
}  // namespace bootstream
