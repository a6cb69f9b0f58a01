#ifndef TESTS_CRASH_SCENE_H_
#define TESTS_CRASH_SCENE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "blockmap/image/manifest.h"
#include "blockmap/map/map_store.h"

namespace bootstream {

// A disk on its way from one system to the next, and what is known of it.
struct Scene {
  static constexpr uint32_t kChunk = kChunkBytesMin;

  std::vector<std::byte> image;
  std::vector<std::byte> manifest_file;
  std::shared_ptr<const Manifest> manifest;
  std::vector<std::byte> source;   // the disk as the source left it
  std::vector<DiskExtent> region;  // what the source has given up
  std::vector<std::byte> disk;     // as it is now
  std::vector<bool> differs;       // by chunk: from the source

  void SetDisk(std::span<const std::byte> bytes);
};

// A small armed disk, laid down by MapStore and Relocate alone: 24 image chunks
// (two of them zero, the last one short, 0 and 2 in the boot set and at home, 4
// to 6 pinned), 112 disk chunks, an anchor.
struct SmallSceneOptions {
  std::vector<DiskExtent> region;
  uint32_t journal_chunks = 1;
  uint64_t seed = 1;
};
Scene MakeSmallScene(const SmallSceneOptions& options);

}  // namespace bootstream

#endif  // TESTS_CRASH_SCENE_H_
