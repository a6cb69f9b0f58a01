#ifndef IMGSERVER_IMAGE_VERIFIER_H_
#define IMGSERVER_IMAGE_VERIFIER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "blockmap/base/progress.h"
#include "blockmap/base/result.h"
#include "blockmap/image/repository_client.h"
#include "imgserver/repository.h"

namespace bootstream {

struct VerifyReport {
  uint64_t manifest_count = 0;
  uint64_t pack_count = 0;
  uint64_t chunk_count = 0;  // different ones
  uint64_t packed_bytes = 0;
  std::vector<std::string> faults;  // a sentence each; empty: all is well
};

// Read everything that `image` (or, without one, any image of the repository)
// consists of: signatures, `latest`, the digest of every pack and of every
// chunk.  An error only if the check itself cannot be done.
Result<VerifyReport> VerifyRepository(
    const Repository& repository, const TrustedKeys& keys,
    const std::optional<ImageReference>& image, Progress& progress);

}  // namespace bootstream

#endif  // IMGSERVER_IMAGE_VERIFIER_H_
