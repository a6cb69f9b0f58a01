#include "blockmap/image/repository_client.h"

#include <utility>

#include "blockmap/image/http_get.h"
#include "blockmap/image/latest.h"

namespace bootstream {
namespace {

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
  GetLimits limits;
  limits.bytes_max = bytes_max;
  limits.stall_timeout = options_.stall_timeout;
  limits.timeout = options_.timeout;
  return HttpGetWithoutRights(url, limits, options_.curl);
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
