#include "bootagent/http_image_access.h"

#include <utility>

namespace bootstream {

Task<Result<ManifestFile>> HttpImageAccess::FetchManifest() {
  if (options_.servers.empty() || options_.image.name.empty() ||
      options_.public_key_file.empty()) {
    co_return Error{ErrorCode::kInvalid,
                    "there is no migration on this disk yet: a new one needs "
                    "--server, --image and --pubkey"};
  }
  auto key = PublicKey::Load(options_.public_key_file);
  if (!key) co_return key.error();
  TrustedKeys keys;
  keys.Add(std::move(*key));
  RepositoryClient::Options client;
  client.servers = options_.servers;
  client.curl.ca_file = options_.ca_file;
  client.min_version = options_.min_version;
  client.stall_timeout = options_.stall_timeout;
  auto fetched = RepositoryClient(client).Fetch(options_.image, keys);
  if (!fetched) co_return fetched.error();
  co_return ManifestFile{
      std::make_shared<const Manifest>(std::move(fetched->manifest)),
      std::move(fetched->file)};
}

Result<ChunkSource*> HttpImageAccess::Source(
    std::shared_ptr<const Manifest> manifest,
    const std::vector<std::string>& known_servers) {
  if (source_ && source_digest_ == manifest->digest()) return source_.get();
  FetchOptions options;
  options.servers = options_.servers.empty() ? known_servers : options_.servers;
  options.curl.ca_file = options_.ca_file;
  options.give_up_after = options_.give_up_after;
  options.stall_timeout = options_.stall_timeout;
  source_digest_ = manifest->digest();
  auto source =
      HttpChunkSource::Create(executor_, std::move(manifest), options);
  if (!source) return source.error();
  source_ = std::move(*source);
  return source_.get();
}

}  // namespace bootstream
