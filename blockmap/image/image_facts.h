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

}  // namespace bootstream

#endif  // BLOCKMAP_IMAGE_IMAGE_FACTS_H_
