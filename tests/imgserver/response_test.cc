#include "imgserver/response.h"

#include <gtest/gtest.h>

#include <string>

#include "imgserver/http_date.h"

namespace bootstream {
namespace {

constexpr std::time_t kMtime = 784111777;

FileFacts Facts() { return {1000, kMtime, "\"tag\"", false}; }

Response Answer(const std::string& fields, const FileFacts& facts = Facts(),
                const std::string& method = "GET",
                std::time_t now = kMtime + 100) {
  const std::string text =
      method + " /boot/x HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n";
  const auto request = ParseRequest(text);
  EXPECT_TRUE(request.has_value()) << text;
  return AnswerWithFile(*request, facts, ResponseContext{now, true});
}

bool Has(const Response& response, const std::string& line) {
  return response.head.find("\r\n" + line + "\r\n") != std::string::npos;
}

TEST(ResponseTest, WholeFile) {
  const Response response = Answer("");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body_size, 1000U);
  EXPECT_TRUE(Has(response, "Content-Length: 1000"));
  EXPECT_TRUE(Has(response, "ETag: \"tag\""));
  EXPECT_TRUE(Has(response, "Cache-Control: no-cache"));
  EXPECT_TRUE(Has(response, "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"));
  EXPECT_FALSE(Has(response, "Content-Range: bytes 0-999/1000"));
}

TEST(ResponseTest, PartSaysExactlyWhatItIs) {
  const Response response = Answer("Range: bytes=10-19\r\n");
  EXPECT_EQ(response.status, 206);
  EXPECT_EQ(response.body_offset, 10U);
  EXPECT_EQ(response.body_size, 10U);
  EXPECT_TRUE(Has(response, "Content-Range: bytes 10-19/1000"));
  EXPECT_TRUE(Has(response, "Content-Length: 10"));
}

TEST(ResponseTest, UnsatisfiableRangeTellsTheSize) {
  const Response response = Answer("Range: bytes=1000-\r\n");
  EXPECT_EQ(response.status, 416);
  EXPECT_EQ(response.body_size, 0U);
  EXPECT_TRUE(Has(response, "Content-Range: bytes */1000"));
  EXPECT_TRUE(Has(response, "Content-Length: 0"));
}

TEST(ResponseTest, HeadHasTheHeaderOfTheWholeAndNoBody) {
  const Response response = Answer("Range: bytes=0-1\r\n", Facts(), "HEAD");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body_size, 0U);
  EXPECT_TRUE(Has(response, "Content-Length: 1000"));
}

TEST(ResponseTest, EmptyFileIsAlwaysWhole) {
  FileFacts facts = Facts();
  facts.size = 0;
  for (const char* range : {"", "Range: bytes=0-\r\n", "Range: bytes=-1\r\n"}) {
    EXPECT_EQ(Answer(range, facts).status, 200) << range;
  }
}

TEST(ResponseTest, IfRangeGuardsTheRange) {
  const std::string range = "Range: bytes=0-1\r\n";
  const std::string date = "If-Range: " + FormatHttpDate(kMtime) + "\r\n";
  EXPECT_EQ(Answer(range + "If-Range: \"tag\"\r\n").status, 206);
  EXPECT_EQ(Answer(range + "If-Range: \"other\"\r\n").status, 200);
  EXPECT_EQ(Answer(range + "If-Range: W/\"tag\"\r\n").status, 200);
  EXPECT_EQ(Answer(range + "If-Range: tag\r\n").status, 200);
  EXPECT_EQ(Answer(range + date).status, 206);
  EXPECT_EQ(Answer(range + date, Facts(), "GET", kMtime + 1).status, 200)
      << "the file may change again within its second";
  EXPECT_EQ(
      Answer(range + "If-Range: " + FormatHttpDate(kMtime + 1) + "\r\n").status,
      200);
}

TEST(ResponseTest, KnownTagIsNotSentAgain) {
  for (const char* tags : {"\"tag\"", "W/\"tag\"", "*", "\"a\", \"tag\""}) {
    const Response response =
        Answer(std::string("If-None-Match: ") + tags + "\r\n");
    EXPECT_EQ(response.status, 304) << tags;
    EXPECT_EQ(response.body_size, 0U);
    EXPECT_TRUE(Has(response, "ETag: \"tag\""));
  }
  for (const char* tags : {"\"a\"", "tag", "\"tag", "", "\"ta\", \"g\""}) {
    EXPECT_EQ(Answer(std::string("If-None-Match: ") + tags + "\r\n").status,
              200)
        << tags;
  }
}

TEST(ResponseTest, TagsGoBeforeDates) {
  const std::string since =
      "If-Modified-Since: " + FormatHttpDate(kMtime) + "\r\n";
  EXPECT_EQ(Answer(since).status, 304);
  EXPECT_EQ(Answer(since + "If-None-Match: \"other\"\r\n").status, 200);
  EXPECT_EQ(Answer("If-Modified-Since: " + FormatHttpDate(kMtime - 1) + "\r\n")
                .status,
            200);
  EXPECT_EQ(Answer("If-Modified-Since: rubbish\r\n").status, 200);
}

TEST(ResponseTest, FailedPreconditionIsSaid) {
  EXPECT_EQ(Answer("If-Match: \"tag\"\r\n").status, 200);
  EXPECT_EQ(Answer("If-Match: \"other\"\r\n").status, 412);
  EXPECT_EQ(Answer("If-Match: W/\"tag\"\r\n").status, 412);
  EXPECT_EQ(
      Answer("If-Unmodified-Since: " + FormatHttpDate(kMtime - 1) + "\r\n")
          .status,
      412);
}

TEST(ResponseTest, ImmutableFilesMayBeCachedForEver) {
  FileFacts facts = Facts();
  facts.is_immutable = true;
  EXPECT_TRUE(Has(Answer("", facts),
                  "Cache-Control: public, max-age=31536000, immutable"));
}

TEST(ResponseTest, RefusalOfHeadHasNoText) {
  const std::string text = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
  const auto request = ParseRequest(text);
  ASSERT_TRUE(request.has_value());
  const Response response = AnswerWithRefusal(
      &*request, {404, "There is no such file."}, ResponseContext{});
  EXPECT_TRUE(response.head.ends_with("\r\n\r\n"));
  EXPECT_TRUE(Has(response, "Content-Length: 23"));
}

}  // namespace
}  // namespace bootstream
