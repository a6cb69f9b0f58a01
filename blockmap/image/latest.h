#ifndef BLOCKMAP_IMAGE_LATEST_H_
#define BLOCKMAP_IMAGE_LATEST_H_

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/types.h"
#include "blockmap/image/signing.h"

namespace bootstream {

inline constexpr uint64_t kLatestBytesMax = 4096;

// The signed pointer to an image's newest version (format.md 1.2).
struct Latest {
  std::string name;
  std::string version;
  Sha256 manifest_digest{};
};

Result<std::vector<std::byte>> EncodeLatest(const Latest& latest,
                                            const PrivateKey& key);
// kCorrupt: malformed, about another image than `name`, or a bad signature;
// kRefused: no trusted key signed it; kUnsupported: newer than we are.
Result<Latest> OpenLatest(std::span<const std::byte> file,
                          std::string_view name, const TrustedKeys& keys);

}  // namespace bootstream

#endif  // BLOCKMAP_IMAGE_LATEST_H_
