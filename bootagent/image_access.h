#ifndef BOOTAGENT_IMAGE_ACCESS_H_
#define BOOTAGENT_IMAGE_ACCESS_H_

#include <memory>
#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "blockmap/image/chunk_source.h"
#include "blockmap/image/image_facts.h"
#include "blockmap/image/manifest.h"

namespace bootstream {

struct ManifestFile {
  std::shared_ptr<const Manifest> manifest;
  std::vector<std::byte> file;  // as it is signed
};

// Where an image comes from.  HttpImageAccess is the real one; tests have one
// in memory.
class ImageAccess {
 public:
  virtual ~ImageAccess() = default;
  // The manifest that was asked for, its signature checked.
  virtual Task<Result<ManifestFile>> FetchManifest() = 0;
  // Chunks of `manifest`; lives as long as the access.  `known_servers`: those
  // that the migration remembers, for when none was named.
  virtual Result<ChunkSource*> Source(
      std::shared_ptr<const Manifest> manifest,
      const std::vector<std::string>& known_servers) = 0;
};

}  // namespace bootstream

#endif  // BOOTAGENT_IMAGE_ACCESS_H_
