#ifndef BLOCKMAP_MAP_SUPERBLOCK_H_
#define BLOCKMAP_MAP_SUPERBLOCK_H_

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "blockmap/base/block_device.h"
#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "blockmap/base/types.h"

// Anchor, stub and superblock: the few sectors that everything else hangs from
// (format.md 2.1 to 2.4).  Encode, decode, choose; pure but for ReadAnchor.

namespace bootstream {

inline constexpr uint64_t kNone = ~uint64_t{0};

enum class TableType : uint32_t { kNone = 0, kMbr = 1, kGpt = 2 };

// Life of a migration (format.md 2.8).
enum class Phase : uint32_t {
  kReleased = 1,
  kStaged,
  kRelocated,
  kStubbed,
  kWritten,
  kArmed,
  kStreaming,
  kComplete,
  kCommitted,
  kSettled,
  kRollingBack,
  kParked,
};
std::string_view PhaseName(Phase phase);  // "released", "rolling-back", ...

struct FeatureMasks {
  uint64_t refuse = 0;
  uint64_t ignore = 0;
  uint64_t clear = 0;
  bool operator==(const FeatureMasks&) const = default;
};

struct DiskIdentity {
  uint64_t size_bytes = 0;
  uint32_t sector_bytes = kSectorBytes;
  TableType table_type = TableType::kNone;
  std::array<std::byte, 16> source_table_id{};
  Sha256 serial_sha256{};
  bool operator==(const DiskIdentity&) const = default;
};

using SuperblockChunks = std::array<DiskChunk, 2>;
// As in manifest section 9; zeroes: no table.
using TableId = std::array<std::byte, 16>;
// The id of the table that a firmware would see, from the first two sectors
// alone: a damaged backup must not hide a migration.
TableId TableIdOf(std::span<const std::byte> sectors);
inline constexpr uint32_t kTableHeadBytes = 2 * kSectorBytes;

struct Anchor {
  uint32_t chunk_bytes = kChunkBytesDefault;
  FeatureMasks features;
  uint64_t sequence = 0;
  Uuid migration_id{};
  DiskIdentity disk;
  TableId target_table_id{};
  SuperblockChunks superblock_chunks{};
  // What it was before the target changed it, or still is; zeroes: nothing.
  TableId previous_table_id{};
  // Everything of the image is at home, and the metadata is being zeroed
  // (map_leave.h).
  bool leaving = false;
};

// Byte offsets of the two candidates on a disk; A, then B.
std::array<uint64_t, 2> AnchorCandidates(uint64_t disk_size_bytes);
inline constexpr uint32_t kAnchorBytes = 4096;      // read at each candidate
inline constexpr uint32_t kAnchorSlotBytes = 2048;  // two: sectors 0 and 4

std::array<std::byte, kSectorBytes> EncodeAnchor(const Anchor& anchor);
// The newest valid anchor in the 4096 bytes of a candidate.  kNotFound: there
// is none (zeroes, or anything else that is not ours); kCorrupt: one was here
// and is damaged; kUnsupported: newer.
Result<Anchor> DecodeAnchor(std::span<const std::byte> candidate);
// The same from the disk at `offset`.  Where the 4096 bytes cannot be read as a
// whole, one of the two sectors is enough.  kIo: neither can be read.
Task<Result<Anchor>> ReadAnchor(BlockDevice& device, uint64_t offset);
// Do both sectors say the same, of that migration?
bool IsWholeAnchor(std::span<const std::byte> candidate,
                   const Uuid& migration_id);

struct Stub {
  uint32_t chunk_bytes = kChunkBytesDefault;
  FeatureMasks features;
  Uuid migration_id{};
  DiskIdentity disk;
  SuperblockChunks superblock_chunks{};
};
// A whole boot sector with its boot code.
std::array<std::byte, kSectorBytes> EncodeStub(const Stub& stub);
// kNotFound: LBA 0 is no stub.
Result<Stub> DecodeStub(std::span<const std::byte> sector);

struct Superblock {
  uint32_t chunk_bytes = kChunkBytesDefault;
  FeatureMasks features;
  uint64_t sequence = 0;
  Uuid migration_id{};
  DiskIdentity disk;
  Phase phase = Phase::kReleased;
  bool healthy_once = false;
  bool committed = false;  // the source is given up
  bool give_up_source_when_full = false;
  bool guaranteed = false;
  bool rollback_wished = false;
  // A parked target comes back: the map holds what it wrote, and is never
  // begun anew.
  bool keep_target = false;
  uint64_t image_bytes = 0;
  uint64_t image_version = 0;
  Sha256 manifest_digest{};
  uint64_t manifest_bytes = 0;
  TableId target_table_id{};
  TableId previous_table_id{};  // as in the anchor
  SuperblockChunks superblock_chunks{};
  uint64_t anchor_offset = kNone;
  DiskChunk checkpoint_chunk{kNone};
  uint64_t checkpoint_epoch = 0;
  DiskChunk journal_chunk{kNone};
  uint64_t journal_epoch = 0;
  uint64_t journal_sequence = 0;
  DiskChunk manifest_chunk{kNone};
  uint64_t manifest_epoch = 0;
  uint64_t next_epoch = 1;
  uint32_t boots_without_health = 0;
  uint64_t boots_total = 0;
  uint64_t source_fs_offset = kNone;
  Uuid source_fs_uuid{};
  Sha256 source_fingerprint{};
  uint64_t region_chunk_count = 0;
  uint32_t journal_chunks = 8;  // length of a journal chain, at least
  uint64_t spare_chunks = 16;   // held back for those who cannot wait
  // A superblock has moved away from here; still to be erased.
  DiskChunk old_superblock_chunk{kNone};
  // Starts that the agent has begun since the driver last judged a boot.
  uint32_t starts_without_boot = 0;
  Uuid counted_boot{};  // the kernel's id of the boot that was counted last
  std::string image_name;
  std::string network;
  std::vector<std::string> server_urls;
};
// The phase in which everything of the image is there.
inline Phase CompletePhase(const Superblock& superblock) {
  return superblock.committed ? Phase::kCommitted : Phase::kComplete;
}

inline constexpr uint32_t kSuperblockBytes = kBlockBytes;
inline constexpr uint32_t kSuperblockSlots = 2;
inline constexpr uint64_t kSuperblockSlotsBytes =
    uint64_t{kSuperblockSlots} * kSuperblockBytes;

// kInvalid if names and URLs do not fit.
Result<std::array<std::byte, kSuperblockBytes>> EncodeSuperblock(
    const Superblock& superblock);
// kNotFound: no superblock here; kCorrupt: one that is damaged or makes no
// sense; kUnsupported: newer.
Result<Superblock> DecodeSuperblock(std::span<const std::byte> block);
// Does `block` hold a superblock of that migration, be it damaged or newer?  No
// version moves the id.
bool IsSuperblockOf(std::span<const std::byte> block, const Uuid& migration_id);

}  // namespace bootstream

#endif  // BLOCKMAP_MAP_SUPERBLOCK_H_
