#ifndef BLOCKMAP_MAP_REGION_H_
#define BLOCKMAP_MAP_REGION_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "blockmap/base/types.h"
#include "blockmap/map/extent_set.h"

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
  bool operator==(const Occupant&) const = default;
};

// What a chunk is wanted for; decides where the allocator looks (the placement
// table in design and README).
struct PlacementWish {
  enum class For : uint8_t {
    kImageChunk,   // home if it is free, else where the image is zero or has
                   // ended, else any
    kStagedChunk,  // the same, but on no boot or pinned home except its own
    kMetadata,     // where the image is zero or has ended, else any other that
                   // is no boot or pinned home; may take what is reserved
    kSource,       // a relocated chunk: as metadata, but not what is reserved
  } purpose = For::kImageChunk;
  ImageChunk chunk;  // kImageChunk, kStagedChunk
};

// The disk chunks that are ours and who uses each.  Pure: no I/O.  One thread.
// Memory: 8 bytes for each chunk that is in use, extents for the rest.
//
// Chunks that are not the home of a boot-set or pinned chunk are *plain*: only
// they serve every purpose, so spare and reserve are counted in them.
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
  uint64_t plain_free_count() const;
  // How many image chunks can still be placed.
  uint64_t available_count(bool use_spare = false) const;
  // The same for staged and relocated chunks, which stay off kept homes.
  uint64_t plain_available_count(bool use_spare = false) const;
  bool IsOurs(DiskChunk chunk) const;
  // How well metadata lies there: kGood where the image is zero or has ended.
  enum class Fit : uint8_t { kGood, kPoor, kNever };
  Fit FitForMetadata(DiskChunk chunk) const;
  Occupant OccupantOf(DiskChunk chunk) const;

  // A free chunk for `wish`, now kReserved; nullopt: none.  The last
  // `spare_count` plain chunks are given only where `use_spare`: a demand miss
  // and a relocation under way can always go on.  Of these the last
  // `reserve_count` are given to metadata only.
  std::optional<DiskChunk> Allocate(const PlacementWish& wish,
                                    bool use_spare = false);
  // Exactly `chunk`, if it is free and not among the last reserved ones.
  bool AllocateAt(DiskChunk chunk);
  void SetOccupant(DiskChunk chunk, Occupant occupant);  // REQUIRES: ours
  void Free(DiskChunk chunk);                            // REQUIRES: ours
  // A free chunk is all zero on the disk; remembered until somebody gets it.
  // REQUIRES: it is free.
  void NoteZeroed(DiskChunk chunk);
  void ForgetZeroed(DiskChunk chunk);
  bool IsZeroed(DiskChunk chunk) const { return zeroed_.Contains(chunk.value); }
  uint64_t zeroed_count() const { return zeroed_.count(); }
  // The whole disk, of so many chunks, is ours: what has joined is so for good,
  // and what is nobody's is free.
  void TakeWholeDisk(uint64_t chunk_count);
  // A relocated source chunk's old place joins; a restored one leaves.
  void Join(DiskChunk chunk);   // becomes kReserved
  void Leave(DiskChunk chunk);  // becomes kForeign
  void set_spare_count(uint64_t count) { spare_count_ = count; }
  void set_reserve_count(uint64_t count) { reserve_count_ = count; }
  // The disk's last chunk if it is shorter than the others: when it has
  // joined, only the image chunk at home there may have it.
  void set_short_chunk(DiskChunk chunk) { short_chunk_ = chunk; }

 private:
  // Why a chunk may be wanted: the lower, the better for something else.
  enum Class : uint8_t {
    kBeyondImage,
    kZeroHome,
    kOtherHome,
    kKeptHome,
    kOwnHomeOnly,
    kClassCount,
  };
  static constexpr uint64_t kPageChunks = 512;
  struct Page {
    std::array<uint64_t, kPageChunks> packed{};  // 0: free, or not ours
    uint32_t used = 0;
  };

  Class ClassOf(DiskChunk chunk) const;
  void AddFree(DiskExtent extent);
  bool IsFree(DiskChunk chunk) const;
  bool MayTakePlain(bool for_metadata, bool use_spare) const;
  std::optional<DiskChunk> Find(const PlacementWish& wish,
                                bool use_spare) const;
  uint64_t PackedAt(DiskChunk chunk) const;
  void SetPacked(DiskChunk chunk, uint64_t packed);
  void Reserve(DiskChunk chunk) { SetOccupant(chunk, {ChunkUse::kReserved}); }

  std::vector<DiskExtent> base_;
  uint64_t base_count_ = 0;
  std::unordered_set<DiskChunk> joined_;
  Grid image_;
  std::function<bool(ImageChunk)> is_zero_;
  std::function<bool(ImageChunk)> is_kept_;
  uint64_t spare_count_ = 0;
  uint64_t reserve_count_ = 0;
  std::optional<DiskChunk> short_chunk_;
  std::array<ExtentSet, kClassCount> free_;
  ExtentSet zeroed_;
  std::unordered_map<uint64_t, std::unique_ptr<Page>> pages_;
};

}  // namespace bootstream

#endif  // BLOCKMAP_MAP_REGION_H_
