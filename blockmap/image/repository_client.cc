#include "blockmap/image/repository_client.h"

#include <strings.h>

#include <array>
#include <utility>

#include "blockmap/image/latest.h"

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

std::string Slashed(std::string url) {
  if (!url.ends_with('/')) url += '/';
  return url;
}

std::string ManifestUrl(const std::string& server, const std::string& name,
                        const std::string& version) {
  return Slashed(server) + "images/" + name + "/" + version + "/manifest";
}

// An answer that another server might give better goes on to the next one.
// Of several errors the most telling one is reported.
int Weight(ErrorCode code) {
  switch (code) {
    case ErrorCode::kUnavailable:
      return 0;
    case ErrorCode::kNotFound:
      return 1;
    default:
      return 2;
  }
}

Status CheckIdentity(const Manifest& manifest, const std::string& name,
                     const std::string& version) {
  if (manifest.content().name != name ||
      manifest.content().version != version) {
    return Error{ErrorCode::kCorrupt,
                 "the manifest is that of " + manifest.content().name + ":" +
                     manifest.content().version + " instead of " + name + ":" +
                     version};
  }
  return OkStatus();
}

}  // namespace

Result<ImageReference> ParseImageReference(std::string_view text) {
  const size_t colon = text.find(':');
  ImageReference out;
  out.name = text.substr(0, colon);
  if (auto status = CheckImageName(out.name); !status) return status.error();
  if (colon == std::string_view::npos) return out;
  out.version = text.substr(colon + 1);
  if (auto version = ParseImageVersion(out.version); !version) {
    return version.error();
  }
  return out;
}

Result<std::vector<std::byte>> RepositoryClient::Get(const std::string& url,
                                                     uint64_t bytes_max) const {
  const CurlHandle easy = MakeCurlHandle(options_.curl);
  Body body;
  body.bytes_max = bytes_max;
  CURL* const it = easy.get();
  std::array<char, CURL_ERROR_SIZE> detail{};
  body.easy = it;
  SetUrl(it, url);
  curl_easy_setopt(it, CURLOPT_ERRORBUFFER, detail.data());
  curl_easy_setopt(it, CURLOPT_HEADERFUNCTION, &ReadHeader);
  curl_easy_setopt(it, CURLOPT_HEADERDATA, &body);
  curl_easy_setopt(it, CURLOPT_WRITEFUNCTION, &Collect);
  curl_easy_setopt(it, CURLOPT_WRITEDATA, &body);
  curl_easy_setopt(it, CURLOPT_MAXFILESIZE_LARGE,
                   static_cast<curl_off_t>(bytes_max));
  curl_easy_setopt(it, CURLOPT_LOW_SPEED_LIMIT, kTrickleBytesPerSecond);
  curl_easy_setopt(
      it, CURLOPT_LOW_SPEED_TIME,
      static_cast<long>(std::chrono::ceil<std::chrono::seconds>(
                            options_.stall_timeout)
                            .count()));
  curl_easy_setopt(it, CURLOPT_TIMEOUT_MS,
                   static_cast<long>(options_.timeout.count()));
  curl_easy_setopt(it, CURLOPT_FAILONERROR, 1L);
  const CURLcode code = curl_easy_perform(it);
  if (body.too_long || code == CURLE_FILESIZE_EXCEEDED) {
    return Error{ErrorCode::kCorrupt, url + " is longer than it can be"};
  }
  if (body.status != 0) {
    return Error{ErrorCode::kCorrupt,
                 url + (body.encoded ? ": the reply is encoded, which was not "
                                       "asked for"
                                     : ": a reply with status " +
                                           std::to_string(body.status) +
                                           " is not the whole file")};
  }
  long status = 0;
  curl_easy_getinfo(it, CURLINFO_RESPONSE_CODE, &status);
  if (code == CURLE_OK && status == 200) return std::move(body.bytes);
  if (code == CURLE_OK || code == CURLE_HTTP_RETURNED_ERROR) {
    const bool missing = status == 404 || status == 410;
    return Error{
        missing ? ErrorCode::kNotFound : ErrorCode::kUnavailable,
        url + ": the server answers with status " + std::to_string(status)};
  }
  return Error{
      IsCertificateTrouble(code) ? ErrorCode::kRefused
                                 : ErrorCode::kUnavailable,
      url + ": " + DescribeCurlError(code, detail.data(), options_.curl)};
}

template <typename Ask>
Result<FetchedManifest> RepositoryClient::FirstOf(Ask ask) const {
  Error worst{ErrorCode::kInvalid, "no server was named"};
  bool any = false;
  for (const auto& server : options_.servers) {
    auto fetched = ask(server);
    if (fetched) return fetched;
    if (!any || Weight(fetched.error().code) > Weight(worst.code)) {
      worst = fetched.error();
    }
    any = true;
  }
  return worst;
}

Result<FetchedManifest> RepositoryClient::Fetch(const ImageReference& image,
                                                const TrustedKeys& keys) const {
  return FirstOf([&](const std::string& server) {
    return FetchFrom(server, image, keys);
  });
}

Result<FetchedManifest> RepositoryClient::FetchFrom(
    const std::string& server, const ImageReference& image,
    const TrustedKeys& keys) const {
  std::string version = image.version;
  std::optional<Sha256> digest;
  if (version.empty()) {
    const std::string url =
        Slashed(server) + "images/" + image.name + "/latest";
    const auto file = Get(url, kLatestBytesMax);
    if (!file) return file.error();
    const auto latest = OpenLatest(*file, image.name, keys);
    if (!latest) return Annotate(latest.error(), url);
    version = latest->version;
    digest = latest->manifest_digest;
  }
  const std::string url = ManifestUrl(server, image.name, version);
  auto file = Get(url, options_.manifest_bytes_max);
  if (!file) return file.error();
  auto manifest = Manifest::Open(*file, keys);
  if (!manifest) return Annotate(manifest.error(), url);
  if (auto s = CheckIdentity(*manifest, image.name, version); !s) {
    return Annotate(s.error(), url);
  }
  if (digest && manifest->digest() != *digest) {
    return Error{ErrorCode::kCorrupt,
                 url + ": not the manifest that 'latest' names"};
  }
  if (manifest->version() < options_.min_version) {
    return Error{ErrorCode::kRefused,
                 image.name + ":" + version +
                     " is older than the lowest version that is allowed"};
  }
  return FetchedManifest{std::move(*manifest), std::move(*file), server};
}

Result<FetchedManifest> RepositoryClient::FetchPinned(
    const std::string& name, const std::string& version,
    const Sha256& digest) const {
  return FirstOf([&](const std::string& server) -> Result<FetchedManifest> {
    const std::string url = ManifestUrl(server, name, version);
    auto file = Get(url, options_.manifest_bytes_max);
    if (!file) return file.error();
    auto manifest = Manifest::OpenPinned(*file, digest);
    if (!manifest) return Annotate(manifest.error(), url);
    return FetchedManifest{std::move(*manifest), std::move(*file), server};
  });
}

}  // namespace bootstream
