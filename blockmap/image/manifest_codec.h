#ifndef BLOCKMAP_IMAGE_MANIFEST_CODEC_H_
#define BLOCKMAP_IMAGE_MANIFEST_CODEC_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/image/manifest.h"

// Bytes to ManifestContent and back (format.md 1.1).  Pure.

namespace bootstream {

inline constexpr uint64_t kManifestBytesMax = uint64_t{1} << 31;
inline constexpr uint32_t kSignaturesMax = 16;

// The parts of a manifest file: where the body ends and who signed it.
struct ManifestEnvelope {
  std::span<const std::byte> body;
  std::vector<std::pair<KeyId, Signature>> signatures;
};
Result<ManifestEnvelope> OpenEnvelope(std::span<const std::byte> file);
void AppendTrailer(std::span<const std::pair<KeyId, Signature>> signatures,
                   std::vector<std::byte>& file);

// REQUIRES: CheckContent(content) is OK.
Result<std::vector<std::byte>> EncodeBody(const ManifestContent& content);
// The content has passed CheckContent.
Result<ManifestContent> DecodeBody(std::span<const std::byte> body);

}  // namespace bootstream

#endif  // BLOCKMAP_IMAGE_MANIFEST_CODEC_H_
