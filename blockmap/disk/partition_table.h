#ifndef BLOCKMAP_DISK_PARTITION_TABLE_H_
#define BLOCKMAP_DISK_PARTITION_TABLE_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "blockmap/base/block_device.h"
#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "blockmap/base/types.h"
#include "blockmap/map/superblock.h"

// GPT (UEFI specification 2.10, chapter 5) and MBR with logical partitions, as
// they lie on the disk.  512-byte sectors.  Stateless.

namespace bootstream {

struct Partition {
  uint32_t number = 0;  // as Linux counts: MBR logical ones from 5
  ByteExtent extent;
  Uuid type_guid{};      // GPT; bytes as on the disk
  Uuid guid{};           // GPT; bytes as on the disk
  uint8_t mbr_type = 0;  // MBR
  std::string label;     // GPT; UTF-8
};

struct PartitionTable {
  TableType type = TableType::kNone;
  // As format.md, manifest section 9: the GPT's disk GUID, or the MBR's
  // signature and zeroes.
  std::array<std::byte, 16> id{};
  std::vector<Partition> partitions;  // by number
  // The table's sectors in the order that arms (format.md, manifest section 7):
  // backup entries, backup header, primary entries, LBA 1; an MBR's extended
  // boot records; LBA 0 last.  Empty if there is no table.
  std::vector<ByteExtent> table_extents;
};

// EFI system partition and BIOS boot partition, bytes as on the disk.
extern const Uuid kEspTypeGuid;
extern const Uuid kBiosBootTypeGuid;

// Usual text form of a GUID whose bytes are as on the disk.
std::string GuidText(const Uuid& guid);

// kCorrupt: two partitions overlap.
Status CheckNoOverlap(const std::vector<Partition>& partitions);

// kCorrupt: there is a table, and it is damaged, contradicts itself or reaches
// beyond the disk; both copies of a GPT must be right and agree.  No table is
// no error.
Task<Result<PartitionTable>> ReadPartitionTable(BlockDevice& device);

}  // namespace bootstream

#endif  // BLOCKMAP_DISK_PARTITION_TABLE_H_
