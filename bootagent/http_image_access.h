#ifndef BOOTAGENT_HTTP_IMAGE_ACCESS_H_
#define BOOTAGENT_HTTP_IMAGE_ACCESS_H_

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "blockmap/base/executor.h"
#include "blockmap/image/http_chunk_source.h"
#include "blockmap/image/repository_client.h"
#include "bootagent/image_access.h"

namespace bootstream {

// Images from a repository behind HTTP.
class HttpImageAccess final : public ImageAccess {
 public:
  struct Options {
    std::vector<std::string> servers;
    ImageReference image;
    std::string public_key_file;
    std::string ca_file;  // empty: the system's
    uint64_t min_version = 0;
    // How long nothing may come before kUnavailable.
    std::chrono::milliseconds give_up_after{5 * 60 * 1000};
    std::chrono::milliseconds stall_timeout{15000};
  };
  HttpImageAccess(Executor& executor, Options options)
      : executor_(executor), options_(std::move(options)) {}

  Task<Result<ManifestFile>> FetchManifest() override;
  Result<ChunkSource*> Source(
      std::shared_ptr<const Manifest> manifest,
      const std::vector<std::string>& known_servers) override;

 private:
  Executor& executor_;
  Options options_;
  std::unique_ptr<HttpChunkSource> source_;
  Sha256 source_digest_{};  // of its manifest
};

}  // namespace bootstream

#endif  // BOOTAGENT_HTTP_IMAGE_ACCESS_H_
