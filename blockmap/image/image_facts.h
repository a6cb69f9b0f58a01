#ifndef BLOCKMAP_IMAGE_IMAGE_FACTS_H_
#define BLOCKMAP_IMAGE_IMAGE_FACTS_H_

#include <memory>

#include "blockmap/image/manifest.h"
#include "blockmap/map/map_store.h"

namespace bootstream {

// What the map wants to know of an image, from its manifest.
inline ImageFacts FactsOf(const std::shared_ptr<const Manifest>& manifest) {
  return ImageFacts{
      manifest->grid(),
      [manifest](ImageChunk chunk) { return manifest->IsZero(chunk); },
      [manifest](ImageChunk chunk) {
        return manifest->InBootSet(chunk) || manifest->IsPinned(chunk);
      }};
}

// Chunks of the boot set and pinned ones.
inline uint64_t KeptChunkCount(const Manifest& manifest) {
  uint64_t count = 0;
  for (const ChunkExtent& extent : manifest.content().pinned) {
    count += extent.count;
  }
  for (const ChunkExtent& extent : manifest.content().boot_set) {
    for (uint64_t i = 0; i < extent.count; ++i) {
      count += !manifest.IsPinned(ImageChunk{extent.first + i});
    }
  }
  return count;
}

}  // namespace bootstream

#endif  // BLOCKMAP_IMAGE_IMAGE_FACTS_H_
