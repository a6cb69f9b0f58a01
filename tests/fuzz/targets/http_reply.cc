// What a server answers, through libcurl: to a request for frames of a pack
// (http_reply), and for a whole file (http_file).  The input is what comes out
// of the socket; after a redirect the connection that follows gets what lies
// behind the first NUL.

#include <algorithm>

#include "blockmap/image/http_get.h"
#include "blockmap/image/http_transfer.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/http_far_end.h"

namespace bootstream {
namespace {

bool CanBePrinted(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c >= ' ' && c < 0x7f; });
}

WantedFrame Frame(uint64_t offset, uint32_t size) {
  WantedFrame frame;
  frame.key.offset = offset;
  frame.key.packed_bytes = size;
  frame.key.content_bytes = kChunkBytesMin;
  return frame;
}

}  // namespace

FUZZ_TARGET(http_reply) {
  if (input.size() > HttpFarEnd::kInputBytesMax) return;
  static const CurlSettings settings;
  HttpFarEnd server(AsText(input));
  CurlHandle handle = MakeCurlHandle(settings);
  CURL* const easy = handle.get();
  server.Attach(easy);
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 1000L);
  HttpTransfer::Request request;
  request.url = "http://127.0.0.1:9/packs/ab";
  request.pack_bytes = 60;
  // Bytes 10 to 19 and 22 to 51: a gap between them.
  request.batch.frames.push_back(Frame(10, 10));
  request.batch.frames.push_back(Frame(22, 30));
  size_t arrived = 0;
  HttpTransfer transfer(
      std::move(handle), std::move(request), Executor::Duration(0),
      [&arrived](const WantedFrame& frame, const AlignedBuffer& bytes) {
        Require(bytes.size() == frame.key.packed_bytes, "a frame comes whole");
        Require(frame.key.offset == (arrived == 0 ? 10 : 22),
                "frames come in their order");
        ++arrived;
      });
  // Nobody answers a TLS handshake here: it would wait for its time-out.
  curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http");
  const CURLcode code = curl_easy_perform(easy);
  const HttpTransfer::Verdict verdict = transfer.Judge(code, settings);
  const auto outcome = verdict.outcome;
  const std::string& why = verdict.why;
  Require((outcome == HttpTransfer::Outcome::kDone) == (arrived == 2),
          "done means that every frame has come");
  Require(outcome == HttpTransfer::Outcome::kDone || !why.empty(),
          "what failed says why");
  Require(CanBePrinted(why), "what is said for people can be printed");
  Require(transfer.TakeRest().size() == 2 - arrived, "the rest is known");
}

FUZZ_TARGET(http_file) {
  if (input.size() > HttpFarEnd::kInputBytesMax) return;
  static const CurlSettings settings;
  HttpFarEnd server(AsText(input));
  CurlHandle handle = MakeCurlHandle(settings);
  server.Attach(handle.get());
  GetLimits limits;
  limits.bytes_max = 40;
  limits.timeout = std::chrono::seconds(1);
  const auto file = HttpGet(std::move(handle), "http://127.0.0.1:9/images/a",
                            limits, settings);
  if (file) {
    Require(file->size() <= limits.bytes_max, "a file is as long as it may be");
    // In pieces, perhaps: chunked transfer coding (RFC 9112, 7.1).
    auto sent = input.begin();
    for (const std::byte byte : *file) {
      sent = std::find(sent, input.end(), byte);
      Require(sent++ != input.end(), "a file is what the server has sent");
    }
  } else {
    Require(CanBePrinted(file.error().message),
            "what is said for people can be printed");
  }
}

}  // namespace bootstream
