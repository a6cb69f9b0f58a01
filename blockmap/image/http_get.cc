#include "blockmap/image/http_get.h"

#include <strings.h>

#include <array>
#include <optional>
#include <span>
#include <string_view>
#include <thread>
#include <utility>

#include "blockmap/image/least_rights.h"

namespace bootstream {
namespace {

// Below this rate a transfer stalls.
constexpr long kTrickleBytesPerSecond = 256;

struct Body {
  CURL* easy = nullptr;
  std::vector<std::byte> bytes;
  uint64_t bytes_max = 0;
  size_t header_bytes = 0;
  bool encoded = false;
  bool too_long = false;
  long status = 0;  // of a reply that is not taken
};

size_t ReadHeader(char* data, size_t size, size_t count, void* user) {
  auto& body = *static_cast<Body*>(user);
  const std::string_view line(data, size * count);
  body.header_bytes += line.size();
  constexpr std::string_view kEncoding = "content-encoding:";
  if (line.size() > kEncoding.size() &&
      ::strncasecmp(line.data(), kEncoding.data(), kEncoding.size()) == 0) {
    body.encoded = line.find("identity") == std::string_view::npos;
  }
  body.too_long = body.header_bytes > kHeaderBytesMax;
  return body.too_long ? 0 : line.size();
}

size_t Collect(char* data, size_t size, size_t count, void* user) {
  auto& body = *static_cast<Body*>(user);
  long status = 0;
  curl_easy_getinfo(body.easy, CURLINFO_RESPONSE_CODE, &status);
  if (status != 200 || body.encoded) {
    body.status = status;
    return 0;
  }
  if (size * count > body.bytes_max - body.bytes.size()) {
    body.too_long = true;
    return 0;
  }
  const auto bytes = std::as_bytes(std::span(data, size * count));
  body.bytes.insert(body.bytes.end(), bytes.begin(), bytes.end());
  return size * count;
}

void SetLimits(CURL* easy, const GetLimits& limits) {
  const auto stall_seconds =
      std::chrono::ceil<std::chrono::seconds>(limits.stall_timeout).count();
  curl_easy_setopt(easy, CURLOPT_MAXFILESIZE_LARGE,
                   static_cast<curl_off_t>(limits.bytes_max));
  curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, kTrickleBytesPerSecond);
  curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME,
                   static_cast<long>(stall_seconds));
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS,
                   static_cast<long>(limits.timeout.count()));
  curl_easy_setopt(easy, CURLOPT_FAILONERROR, 1L);
}

// Why what has come is not taken, if it was we who refused it.
std::optional<Error> Refusal(const Body& body, CURLcode code,
                             const std::string& url) {
  if (body.too_long || code == CURLE_FILESIZE_EXCEEDED) {
    return Error{ErrorCode::kCorrupt, url + " is longer than it can be"};
  }
  if (body.status == 0) return std::nullopt;
  if (body.encoded) {
    return Error{ErrorCode::kCorrupt,
                 url + ": the reply is encoded, which was not asked for"};
  }
  return Error{ErrorCode::kCorrupt, url + ": a reply with status " +
                                        std::to_string(body.status) +
                                        " is not the whole file"};
}

}  // namespace

Result<std::vector<std::byte>> HttpGet(CurlHandle easy, const std::string& url,
                                       const GetLimits& limits,
                                       const CurlSettings& settings) {
  CURL* const it = easy.get();
  std::array<char, CURL_ERROR_SIZE> detail{};
  Body body;
  body.easy = it;
  body.bytes_max = limits.bytes_max;
  SetUrl(it, url);
  SetLimits(it, limits);
  curl_easy_setopt(it, CURLOPT_ERRORBUFFER, detail.data());
  curl_easy_setopt(it, CURLOPT_HEADERFUNCTION, &ReadHeader);
  curl_easy_setopt(it, CURLOPT_HEADERDATA, &body);
  curl_easy_setopt(it, CURLOPT_WRITEFUNCTION, &Collect);
  curl_easy_setopt(it, CURLOPT_WRITEDATA, &body);
  const CURLcode code = curl_easy_perform(it);
  if (auto refusal = Refusal(body, code, url)) return *refusal;
  long status = 0;
  curl_easy_getinfo(it, CURLINFO_RESPONSE_CODE, &status);
  if (code == CURLE_OK && status == 200) return std::move(body.bytes);
  if (code == CURLE_OK || code == CURLE_HTTP_RETURNED_ERROR) {
    const bool missing = status == 404 || status == 410;
    return Error{
        missing ? ErrorCode::kNotFound : ErrorCode::kUnavailable,
        url + ": the server answers with status " + std::to_string(status)};
  }
  return Error{IsCertificateTrouble(code) ? ErrorCode::kRefused
                                          : ErrorCode::kUnavailable,
               url + ": " + DescribeCurlError(code, detail.data(), settings)};
}

Result<std::vector<std::byte>> HttpGetWithoutRights(
    const std::string& url, const GetLimits& limits,
    const CurlSettings& settings) {
  std::optional<Result<std::vector<std::byte>>> answer;
  std::thread([&] {
    DropRightsOfThisThread();
    answer = HttpGet(MakeCurlHandle(settings), url, limits, settings);
  }).join();
  return std::move(*answer);
}

}  // namespace bootstream
