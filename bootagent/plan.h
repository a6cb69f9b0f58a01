#ifndef BOOTAGENT_PLAN_H_
#define BOOTAGENT_PLAN_H_

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "blockmap/base/result.h"
#include "blockmap/base/types.h"
#include "blockmap/disk/ext_space.h"
#include "blockmap/disk/probe.h"
#include "blockmap/image/manifest.h"
#include "bootagent/user_fit.h"

// What a migration will do, with every byte accounted for, before anything is
// written.  Pure: facts and manifest in, plan or refusal out.

namespace bootstream {

// What the plan is made from, besides the manifest.
struct Facts {
  ProbedDisk disk;
  // Of each ext file system, by the byte where its partition begins.
  struct Space {
    uint64_t partition_offset = 0;
    ExtSpace space;
  };
  std::vector<Space> spaces;
  PartitionTable image_table;
  uint64_t manifest_bytes = 0;           // the signed file
  uint64_t memory_bytes = ~uint64_t{0};  // available; unless known, enough
  UserSpace users;
};

enum class WhenFull { kUnset, kBlock, kGiveUpSource };

struct PlanOptions {
  std::optional<uint32_t> region_partition;  // number; else the roomiest
  WhenFull when_full = WhenFull::kUnset;
  // Left free in the source's file system; else 10 %, at least 1 GiB.
  std::optional<uint64_t> headroom_bytes;
  uint32_t journal_chunks = 8;
  uint64_t spare_chunks = 16;
};

// Everything that will take room in the region, in chunks.
struct Account {
  uint64_t image = 0;        // all of it, used or not
  uint64_t image_data = 0;   // what is not zero
  uint64_t boot_set = 0;     // staged first, then at home
  uint64_t relocations = 0;  // at most
  uint64_t metadata = 0;     // superblocks, journals, checkpoints, manifest
  uint64_t spare = 0;
  uint64_t region = 0;  // what the file must yield, in whole chunks
  // What is left for the image and its writes once boot set, relocations,
  // metadata and spare have their places; relocated places count.
  uint64_t room_for_image = 0;
};

struct PlanStep {
  std::string name;  // "release", "stage", ...
  std::string text;
  uint64_t bytes = 0;  // to be written or fetched
};

struct Plan {
  std::string disk;
  DiskIdentity identity;
  std::string image_name;
  std::string image_version;
  Sha256 manifest_digest{};
  Grid image;
  Grid disk_grid;
  uint32_t source_partition = 0;
  ByteExtent source_extent;
  Uuid source_uuid{};
  uint64_t region_file_bytes = 0;
  uint64_t region_file_bytes_max = 0;
  uint64_t source_free_bytes = 0;
  uint64_t headroom_bytes = 0;
  uint64_t anchor_offset = 0;
  std::vector<DiskChunk> special;  // SpecialChunks()
  uint32_t journal_chunks = 8;
  Account account;
  bool guaranteed = false;
  bool give_up_source = false;
  UserFitting users;
  std::vector<PlanStep> steps;
  DiskChunk anchor_chunk() const {
    return DiskChunk{anchor_offset / disk_grid.chunk_bytes};
  }
};

// kRefused or kUnsupported with one sentence if the disk cannot be migrated
// safely, whatever the image.
Status CheckDisk(const ProbedDisk& disk);

// kRefused says what is in the way, and by how much where it is room.
Result<Plan> MakePlan(const Facts& facts, const Manifest& manifest,
                      const PlanOptions& options);

// Disk chunks that are written though no boot chunk is at home in them: the
// anchor's, and those of the sectors that make the source's `table` invalid.
std::vector<DiskChunk> SpecialChunks(const PartitionTable& table,
                                     const Grid& disk, uint64_t anchor_offset);

// Disk chunks whose occupants must be copied before the boot set goes home,
// ascending: boot homes and the special chunks outside `base`.
std::vector<DiskChunk> ChunksToRelocate(std::span<const DiskChunk> special,
                                        const Manifest& manifest,
                                        std::span<const DiskExtent> base);

// Does the region that was released keep the plan's promises?  kNoSpace says
// how many chunks are missing.
Status CheckRegion(const Plan& plan, const Manifest& manifest,
                   std::span<const DiskExtent> base);

// The byte offset of the anchor (format.md 2.2).  kRefused: neither candidate
// is free in the image.
Result<uint64_t> ChooseAnchor(const Grid& disk, const Manifest& manifest);

// Image chunks that a sector of the image's partition tables lies in.
std::set<ImageChunk> TableChunks(const Manifest& manifest);

// Is the chunk one that metadata and relocated chunks stay off?
bool IsKept(const Manifest& manifest, ImageChunk chunk);

}  // namespace bootstream

#endif  // BOOTAGENT_PLAN_H_
