#ifndef BLOCKMAP_IMAGE_MANIFEST_CHECK_H_
#define BLOCKMAP_IMAGE_MANIFEST_CHECK_H_

#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/image/manifest.h"

namespace bootstream {

inline constexpr uint64_t kImageBytesMax = uint64_t{1} << 56;
inline constexpr size_t kBaseUrlsMax = 64;

// Everything that format.md 1.1 asks of what a manifest says, whoever says it:
// Encode refuses to write, and Open to read, anything else.  kCorrupt.
Status CheckContent(const ManifestContent& content);

// `extents` by address.
std::vector<ChunkExtent> ByAddress(std::vector<ChunkExtent> extents);
// `extents` are ascending and do not overlap; does one hold `chunk`?
bool Holds(const std::vector<ChunkExtent>& extents, uint64_t chunk);

}  // namespace bootstream

#endif  // BLOCKMAP_IMAGE_MANIFEST_CHECK_H_
