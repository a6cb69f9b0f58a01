#ifndef BLOCKMAP_MAP_REGION_H_
#define BLOCKMAP_MAP_REGION_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "blockmap/base/types.h"

namespace bootstream {

// Who uses a disk chunk.
enum class ChunkUse : uint8_t {
  kForeign,   // the source's, or nobody's: not ours to write
  kFree,      // ours, and nothing is in it
  kImage,     // holds an image chunk
  kSource,    // holds a relocated source chunk
  kMetadata,  // superblock, chain or anchor
  kReserved,  // allocated, not recorded yet, or freed and not yet durable
};

struct Occupant {
  ChunkUse use = ChunkUse::kForeign;
  uint64_t number = 0;  // kImage: image chunk; kSource: the source's chunk
};

// What a chunk is wanted for; decides where the allocator looks (the placement
// table in design and README).
struct PlacementWish {
  enum class For : uint8_t {
    kImageChunk,  // home if it is free, else a chunk that is no image home,
                  // else any
    kMetadata,    // no boot or pinned home; where the image is zero or has
                  // ended; else any other
    kSource,      // a relocated chunk: as metadata
  } purpose = For::kImageChunk;
  ImageChunk chunk;  // kImageChunk
};

// The disk chunks that are ours and who uses each.  Pure: no I/O.  One thread.
// Memory: a few bytes for each chunk that is in use, extents for the rest.
class Region {
 public:
  // `image`: the image's grid.  `is_zero` says whether an image chunk is zero
  // in the manifest, `is_kept` whether metadata and relocated chunks must stay
  // off its home (boot set or pinned).
  Region(std::vector<DiskExtent> base, Grid image,
         std::function<bool(ImageChunk)> is_zero,
         std::function<bool(ImageChunk)> is_kept);

  const std::vector<DiskExtent>& base() const { return base_; }
  uint64_t chunk_count() const;  // base and joined
  uint64_t free_count() const;
  bool IsOurs(DiskChunk chunk) const;
  Occupant OccupantOf(DiskChunk chunk) const;

  // A free chunk for `wish`, now kReserved; nullopt: none.  The last
  // `spare_count` free chunks are given only where `use_spare`: a demand miss
  // and a relocation under way can always go on.
  std::optional<DiskChunk> Allocate(const PlacementWish& wish,
                                    bool use_spare = false);
  // Exactly `chunk`, if it is free.
  bool AllocateAt(DiskChunk chunk);
  void SetOccupant(DiskChunk chunk, Occupant occupant);  // REQUIRES: ours
  void Free(DiskChunk chunk);                            // REQUIRES: ours
  // A relocated source chunk's old place joins; a restored one leaves.
  void Join(DiskChunk chunk);   // becomes kReserved
  void Leave(DiskChunk chunk);  // becomes kForeign
  void set_spare_count(uint64_t count) { spare_count_ = count; }

 private:
  std::vector<DiskExtent> base_;
  Grid image_;
  std::function<bool(ImageChunk)> is_zero_;
  std::function<bool(ImageChunk)> is_kept_;
  uint64_t spare_count_ = 0;
};

}  // namespace bootstream

#endif  // BLOCKMAP_MAP_REGION_H_
