#include "blockmap/map/space_account.h"

#include <algorithm>

#include "blockmap/map/map_store.h"

namespace bootstream {
namespace {

// The anchor's chunk, that of the first sectors, and with a GPT those that its
// copy at the end of the disk lies in.
uint64_t SpecialChunksMax(const Superblock& superblock) {
  return superblock.disk.table_type == TableType::kGpt ? 4 : 2;
}

uint64_t Less(uint64_t from, uint64_t what) {
  return from > what ? from - what : 0;
}

}  // namespace

uint64_t RoomForImage(const Superblock& superblock, const Region& region) {
  const uint64_t plain = region.plain_available_count(/*use_spare=*/true);
  const uint64_t kept_homes = region.available_count(true) - plain;
  return kept_homes + Less(plain, KeptForTheWayBack(superblock));
}

SpacePrediction PredictSpace(const Superblock& superblock, const Region& region,
                             uint64_t kept_chunks) {
  SpacePrediction predicted;
  predicted.relocations = kept_chunks + SpecialChunksMax(superblock);
  const Grid image{superblock.chunk_bytes, superblock.image_bytes};
  predicted.metadata =
      MapStore::MetadataChunks(image, superblock.manifest_bytes,
                               region.base().size(), superblock.journal_chunks);
  uint64_t base = 0;
  for (const DiskExtent& extent : region.base()) base += extent.count;
  predicted.room_for_image =
      Less(base, predicted.metadata + superblock.spare_chunks);
  return predicted;
}

}  // namespace bootstream
