#ifndef INITRAMFS_GROW_TABLE_GROWTH_H_
#define INITRAMFS_GROW_TABLE_GROWTH_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "blockmap/base/aligned_buffer.h"
#include "blockmap/base/block_device.h"
#include "blockmap/base/result.h"
#include "blockmap/base/task.h"
#include "blockmap/base/types.h"
#include "blockmap/disk/gpt.h"
#include "blockmap/disk/partition_table.h"

// A partition table that was made for a smaller disk takes up the whole one:
// the GPT's second copy moves to the disk's last sectors, and the last
// partition reaches up to them.  GUIDs, numbers and beginnings stay.  512-byte
// sectors.
//
// Each step is one or more sectors, flushed before the next; whatever a power
// cut leaves of a step, the header in LBA 1 (UEFI specification 2.10, section
// 5.3.2) is whole and names whole entries, and growing again leads to the same:
//
//   1. the new second copy     nobody looks at it yet
//   2. the old one's header    zeroes, while it is still outside the partitions
//   3. LBA 1                   the new table, with the second copy's entries
//   4. entries behind LBA 1    nobody looks at them
//   5. LBA 1                   the new table, with these
//   6. LBA 0                   the protective MBR's size
//
// So a loader or a kernel that only knows the first copy always finds a table,
// and firmware that falls back to the last sector finds the new one from step 3
// on.  An MBR is one sector.

namespace bootstream {

// What was read: the table as it counts.
struct TableToGrow {
  TableType type = TableType::kNone;
  uint64_t disk_bytes = 0;
  AlignedBuffer lba0;
  GptCopy gpt;  // of a GPT: the first copy, or else the one at the disk's end
  std::vector<Partition> partitions;  // by number

  // The one that ends last; nullptr: there is none.
  const Partition* last() const;
};

struct TableWrite {
  uint64_t offset = 0;  // bytes
  AlignedBuffer data;
};
using TableStep = std::vector<TableWrite>;

struct TableGrowth {
  std::vector<TableStep> steps;
  ByteExtent last;  // the last partition in the new table
};

// kNotFound: there is no table.  kCorrupt: it is damaged in a way that a power
// cut during growth does not leave, or made for a larger disk.
Task<Result<TableToGrow>> ReadTableToGrow(BlockDevice& disk);

// Pure.  With `grow_last` the last partition ends at the last multiple of 1 MiB
// that the table allows; it never becomes smaller.  kUnsupported: it should,
// and is a logical one of an MBR.
Result<TableGrowth> PlanTableGrowth(const TableToGrow& table, bool grow_last);

// Whether all that `growth` leads to is on the disk already.
Task<Result<bool>> IsGrown(BlockDevice& disk, const TableGrowth& growth);
// REQUIRES: nobody else writes to the disk's table.
Task<Status> WriteTableGrowth(BlockDevice& disk, const TableGrowth& growth);

}  // namespace bootstream

#endif  // INITRAMFS_GROW_TABLE_GROWTH_H_
