// What a client sends to imgserver: two bytes of file size, a request header;
// the answer to it is made, too, and the line for the log.

#include <algorithm>

#include "blockmap/base/coding.h"
#include "imgserver/access_log.h"
#include "imgserver/http_date.h"
#include "imgserver/request.h"
#include "imgserver/response.h"
#include "tests/fuzz/fuzz.h"

namespace bootstream {
namespace {

void CheckPath(std::string_view target) {
  const auto path = DecodeRequestPath(target);
  if (!path) return;
  const std::string whole = "/" + path->folder + "/" + path->rest;
  Require(whole.find("/.") == std::string::npos &&
              whole.find("//") == std::string::npos,
          "a path never leads upwards or to hidden files");
  Require(
      std::ranges::none_of(
          whole, [](char c) { return static_cast<unsigned char>(c) < 0x20; }),
      "a path has no control characters");
}

void CheckResponse(const Response& response, uint64_t size) {
  Require(response.body_offset <= size &&
              response.body_size <= size - response.body_offset,
          "what is sent lies in the file");
  const size_t end = response.head.find("\r\n\r\n");
  Require(end != std::string::npos, "a header ends");
  Require(response.body_size == 0 || end + 4 == response.head.size(),
          "nothing lies between header and file");
}

void CheckLine(const Request& request) {
  AccessRecord record;
  record.client = "127.0.0.1";
  record.method = request.method;
  record.target = request.target;
  const std::string line = FormatAccessLine(record);
  Require(line.find('\n') == line.size() - 1, "a request is one line");
  Require(std::ranges::all_of(line.substr(0, line.size() - 1),
                              [](char c) { return c >= ' ' && c < 0x7f; }),
          "a line can be printed");
}

void CheckDate(std::string_view text) {
  const auto time = ParseHttpDate(text);
  if (!time) return;
  const auto year = *time / (int64_t{365} * 24 * 60 * 60) + 1970;
  if (year < 2 || year > 9990) return;
  Require(ParseHttpDate(FormatHttpDate(*time)) == time,
          "a date that was written can be read");
}

}  // namespace

FUZZ_TARGET(http_request) {
  ByteReader in(input);
  FileFacts facts;
  facts.size = in.U16();
  facts.mtime = 784111777;
  facts.etag = "\"5-2ebd1f\"";
  const std::string_view text = AsText(in.Bytes(in.remaining()));
  CheckPath(text.substr(0, text.find('\n')));
  CheckDate(text.substr(0, text.find('\n')));
  size_t checked = 0;
  const auto end = FindHeaderEnd(text, checked);
  if (!end) return;
  // Of exactly this size, so that a byte too many is seen.
  const std::vector<char> header(text.begin(),
                                 text.begin() + static_cast<ptrdiff_t>(*end));
  const auto request = ParseRequest({header.data(), header.size()});
  const ResponseContext context{1'700'000'000, true};
  if (!request) {
    CheckResponse(AnswerWithRefusal(nullptr, request.error(), context), 0);
    return;
  }
  CheckPath(request->target);
  CheckLine(*request);
  CheckResponse(AnswerWithFile(*request, facts, context), facts.size);
  const RangeAnswer part = ResolveRange(request->range, facts.size);
  Require(part.kind != RangeKind::kPart ||
              (part.size > 0 && part.first < facts.size &&
               part.size <= facts.size - part.first),
          "a part lies in the file");
}

}  // namespace bootstream
