#include "imgserver/response.h"

#include <string_view>

#include "imgserver/http_date.h"

namespace bootstream {
namespace {

// A date is a strong validator only if the file cannot have changed again
// within its second (RFC 9110, section 8.8.2.2).
constexpr std::time_t kStrongDateAge = 2;  // seconds

std::string_view Phrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 206:
      return "Partial Content";
    case 304:
      return "Not Modified";
    case 400:
      return "Bad Request";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 412:
      return "Precondition Failed";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 416:
      return "Range Not Satisfiable";
    case 431:
      return "Request Header Fields Too Large";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Internal Server Error";
  }
}

// The Date header changes once a second.
const std::string& DateLine(std::time_t now) {
  thread_local std::time_t time = -1;
  thread_local std::string line;
  if (time != now) {
    time = now;
    line = "Date: " + FormatHttpDate(now) + "\r\n";
  }
  return line;
}

// Writes a header line by line.
class HeadWriter {
 public:
  HeadWriter(Response& response, std::time_t now) : out_(response.head) {
    out_.reserve(448);
    out_ += "HTTP/1.1 ";
    out_ += std::to_string(response.status);
    out_ += ' ';
    out_ += Phrase(response.status);
    out_ += "\r\n";
    out_ += DateLine(now);
  }
  void Add(std::string_view name, std::string_view value) {
    out_ += name;
    out_ += ": ";
    out_ += value;
    out_ += "\r\n";
  }
  void Finish(const Request* request, bool keep_alive) {
    if (!keep_alive) {
      Add("Connection", "close");
    } else if (request != nullptr && request->is_http_1_0) {
      Add("Connection", "keep-alive");
    }
    out_ += "\r\n";
  }

 private:
  std::string& out_;
};

// Whether `list`, the value of If-Match or If-None-Match, names `etag`.
// `weak` lets W/"x" stand for "x".
bool ListNames(std::string_view list, std::string_view etag, bool weak) {
  if (list == "*") return true;
  while (!list.empty()) {
    const size_t open = list.find('"');
    if (open == std::string_view::npos) return false;
    const size_t close = list.find('"', open + 1);
    if (close == std::string_view::npos) return false;
    const bool is_weak = open >= 2 && list.substr(open - 2, 2) == "W/";
    if (list.substr(open, close - open + 1) == etag && (weak || !is_weak)) {
      return true;
    }
    list.remove_prefix(close + 1);
  }
  return false;
}

bool IsPresent(std::string_view field) { return field.data() != nullptr; }

// 200, 304 or 412.
int EvaluatePreconditions(const Request& request, const FileFacts& facts) {
  if (IsPresent(request.if_match)) {
    if (!ListNames(request.if_match, facts.etag, false)) return 412;
  } else if (IsPresent(request.if_unmodified_since)) {
    const auto date = ParseHttpDate(request.if_unmodified_since);
    if (date && facts.mtime > *date) return 412;
  }
  if (IsPresent(request.if_none_match)) {
    if (ListNames(request.if_none_match, facts.etag, true)) return 304;
  } else if (IsPresent(request.if_modified_since)) {
    const auto date = ParseHttpDate(request.if_modified_since);
    if (date && facts.mtime <= *date) return 304;
  }
  return 200;
}

// Whether If-Range lets the range stand.
bool RangeStands(const Request& request, const FileFacts& facts,
                 std::time_t now) {
  if (!IsPresent(request.if_range)) return true;
  if (request.if_range.starts_with('"')) {
    return request.if_range == facts.etag;
  }
  const auto date = ParseHttpDate(request.if_range);
  return date && *date == facts.mtime && now - facts.mtime >= kStrongDateAge;
}

std::string ContentRange(const RangeAnswer& part, uint64_t file_size) {
  return "bytes " + std::to_string(part.first) + "-" +
         std::to_string(part.first + part.size - 1) + "/" +
         std::to_string(file_size);
}

// The range that counts: of a GET, and only if the preconditions stand.
RangeAnswer PartFor(const Request& request, const FileFacts& facts,
                    std::time_t now) {
  if (request.method != "GET" || !IsPresent(request.range) ||
      !RangeStands(request, facts, now)) {
    return {};
  }
  const RangeAnswer part = ResolveRange(request.range, facts.size);
  return facts.size == 0 ? RangeAnswer{} : part;
}

void AddValidators(HeadWriter& head, const FileFacts& facts) {
  head.Add("ETag", facts.etag);
  head.Add("Cache-Control", facts.is_immutable
                                ? "public, max-age=31536000, immutable"
                                : "no-cache");
}

}  // namespace

Response AnswerWithFile(const Request& request, const FileFacts& facts,
                        const ResponseContext& context) {
  Response out;
  out.keep_alive = context.keep_alive;
  out.status = EvaluatePreconditions(request, facts);
  if (out.status == 412) {
    return AnswerWithRefusal(
        &request, {412, "The file is not the one that was asked for."},
        context);
  }
  uint64_t size = 0;
  if (out.status == 200) {
    out.part = PartFor(request, facts, context.now);
    size = facts.size;
    if (out.part.kind == RangeKind::kPart) {
      out.status = 206;
      out.body_offset = out.part.first;
      size = out.part.size;
    } else if (out.part.kind == RangeKind::kUnsatisfiable) {
      out.status = 416;
      size = 0;
    }
  }

  HeadWriter head(out, context.now);
  AddValidators(head, facts);
  if (out.status == 206) {
    head.Add("Content-Range", ContentRange(out.part, facts.size));
  } else if (out.status == 416) {
    head.Add("Content-Range", "bytes */" + std::to_string(facts.size));
  }
  if (out.status != 304) {
    head.Add("Content-Length", std::to_string(size));
    head.Add("Content-Type", "application/octet-stream");
    head.Add("Last-Modified", FormatHttpDate(facts.mtime));
    head.Add("Accept-Ranges", "bytes");
    if (request.method != "HEAD") out.body_size = size;
  }
  head.Finish(&request, out.keep_alive);
  return out;
}

Response AnswerWithRefusal(const Request* request, const Refusal& refusal,
                           const ResponseContext& context) {
  Response out;
  out.status = refusal.status;
  out.keep_alive = context.keep_alive;
  HeadWriter head(out, context.now);
  head.Add("Content-Length", std::to_string(refusal.reason.size() + 1));
  head.Add("Content-Type", "text/plain; charset=utf-8");
  head.Add("Cache-Control", "no-store");
  if (refusal.status == 405) head.Add("Allow", "GET, HEAD");
  if (refusal.status == 503) head.Add("Retry-After", "1");
  head.Finish(request, out.keep_alive);
  if (request == nullptr || request->method != "HEAD") {
    out.head += refusal.reason;
    out.head += '\n';
  }
  return out;
}

}  // namespace bootstream
