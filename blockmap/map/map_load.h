#ifndef BLOCKMAP_MAP_MAP_LOAD_H_
#define BLOCKMAP_MAP_MAP_LOAD_H_

#include <cstdint>
#include <vector>

#include "blockmap/base/block_device.h"
#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "blockmap/map/checkpoint.h"
#include "blockmap/map/journal.h"
#include "blockmap/map/superblock.h"

namespace bootstream {

// The grids of image and disk that a superblock names.
MapLimits LimitsOf(const Superblock& superblock);

// The map as a superblock leads to it: the checkpoint, and the journals since.
struct LoadedMap {
  CheckpointContents contents;
  std::vector<DiskChunk> checkpoint_chunks;
  std::vector<JournalPlace> journals;
  JournalPosition end;  // in the last journal
  uint64_t next_epoch = 0;
};

// kCorrupt: it contradicts itself.  Journal blocks from `until_sequence` on are
// not looked at.  `superblock` and `loaded` must stay until it is done.
Task<Status> LoadMap(BlockDevice& device, const Superblock& superblock,
                     LoadedMap& loaded, uint64_t until_sequence = kNone);

}  // namespace bootstream

#endif  // BLOCKMAP_MAP_MAP_LOAD_H_
