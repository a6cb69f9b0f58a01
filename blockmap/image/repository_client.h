#ifndef BLOCKMAP_IMAGE_REPOSITORY_CLIENT_H_
#define BLOCKMAP_IMAGE_REPOSITORY_CLIENT_H_

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/image/curl_handle.h"
#include "blockmap/image/manifest.h"
#include "blockmap/image/signing.h"

namespace bootstream {

// "NAME" or "NAME:VERSION".
struct ImageReference {
  std::string name;
  std::string version;  // empty: the latest
};
Result<ImageReference> ParseImageReference(std::string_view text);

struct FetchedManifest {
  Manifest manifest;
  std::vector<std::byte> file;  // as it came, signatures included
  std::string server;           // that gave it
};

// Asks servers for manifests and believes only what a trusted key has signed,
// or what a pinned digest names.  Blocking; one thread.
//
// Every error is one sentence for people.  kUnavailable: no server answers;
// kNotFound: the image or version is on none of them; kRefused: not signed by a
// trusted key, older than `min_version`, or a server whose certificate is not
// good; kCorrupt: altered or malformed.
class RepositoryClient {
 public:
  struct Options {
    std::vector<std::string> servers;  // repositories, tried in order
    CurlSettings curl;
    // A server from which next to nothing comes for so long is given up;
    // whole seconds.
    std::chrono::milliseconds stall_timeout{15000};
    std::chrono::milliseconds timeout{3600000};  // of one file, in any case
    uint64_t manifest_bytes_max = 256 << 20;
    // Versions below are refused; 0: none.
    uint64_t min_version = 0;
  };

  explicit RepositoryClient(Options options) : options_(std::move(options)) {}

  Result<FetchedManifest> Fetch(const ImageReference& image,
                                const TrustedKeys& keys) const;
  // The manifest with this digest, whoever signed it.
  Result<FetchedManifest> FetchPinned(const std::string& name,
                                      const std::string& version,
                                      const Sha256& digest) const;

 private:
  template <typename Ask>
  Result<FetchedManifest> FirstOf(Ask ask) const;
  Result<FetchedManifest> FetchFrom(const std::string& server,
                                    const ImageReference& image,
                                    const TrustedKeys& keys) const;
  Result<std::vector<std::byte>> Get(const std::string& url,
                                     uint64_t bytes_max) const;
  Options options_;
};

}  // namespace bootstream

#endif  // BLOCKMAP_IMAGE_REPOSITORY_CLIENT_H_
