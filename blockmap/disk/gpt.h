#ifndef BLOCKMAP_DISK_GPT_H_
#define BLOCKMAP_DISK_GPT_H_

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/base/block_device.h"
#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "blockmap/disk/partition_table.h"

// One copy of a GPT: a header and the entries that it names (UEFI specification
// 2.10, sections 5.3.2 and 5.3.3).  For those who change one; who only wants to
// know the partitions reads a PartitionTable.  512-byte sectors.  Stateless.

namespace bootstream {

// The fields of a header but for its checksum.
struct GptHeader {
  uint64_t own_lba = 0;
  uint64_t other_lba = 0;
  uint64_t first_usable = 0;
  uint64_t last_usable = 0;
  std::array<std::byte, 16> disk_guid{};
  uint64_t entries_lba = 0;
  uint32_t entry_count = 0;
  uint32_t entry_bytes = 0;
  uint32_t entries_crc = 0;
  uint64_t entries_bytes() const { return uint64_t{entry_count} * entry_bytes; }
  uint64_t entries_sectors() const {
    return (entries_bytes() + kSectorBytes - 1) / kSectorBytes;
  }
};

struct GptCopy {
  GptHeader header;
  AlignedBuffer sector;   // of the header
  AlignedBuffer entries;  // whole sectors
  std::span<const std::byte> entry(uint32_t index) const {
    return entries.span().subspan(size_t{index} * header.entry_bytes,
                                  header.entry_bytes);
  }
};

inline constexpr uint64_t kGptSignature = 0x5452415020494645;  // "EFI PART"
// Where an entry has the partition's last sector.
inline constexpr size_t kGptEntryLastLba = 40;

// CRC-32 as GPT uses it (ISO 3309, reflected).
uint32_t GptCrc32(std::span<const std::byte> data);

// `count` sectors from `lba` on.  kCorrupt: beyond the disk.
Task<Result<AlignedBuffer>> ReadTableSectors(BlockDevice& device, uint64_t lba,
                                             uint64_t count);

// The copy whose header is at `lba`; kCorrupt: there is none, or a checksum or
// a field is wrong.
Task<Result<GptCopy>> ReadGptCopy(BlockDevice& device, uint64_t lba);

// A header's sector that says `header`, with a right checksum; what is not in a
// GptHeader is as in `like`, which was one.
AlignedBuffer EncodeGptHeader(const GptHeader& header,
                              std::span<const std::byte> like);

// The entries in use, by number.  kCorrupt: one lies outside the usable
// sectors, or two overlap.
Result<std::vector<Partition>> GptPartitions(const GptCopy& gpt);

}  // namespace bootstream

#endif  // BLOCKMAP_DISK_GPT_H_
