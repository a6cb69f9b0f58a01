#ifndef BLOCKMAP_DISK_MBR_H_
#define BLOCKMAP_DISK_MBR_H_

#include <array>
#include <cstdint>
#include <span>

#include "blockmap/base/types.h"

// The four entries of an MBR or of an extended boot record (UEFI specification
// 2.10, section 5.2).  Pure.

namespace bootstream {

inline constexpr uint8_t kMbrProtective = 0xee;
inline constexpr size_t kMbrTableOffset = 446;
inline constexpr size_t kMbrEntryBytes = 16;

struct MbrEntry {
  uint8_t status = 0;
  uint8_t type = 0;
  uint64_t first = 0;  // LBA; relative in an extended boot record
  uint64_t count = 0;
  bool extended() const { return type == 5 || type == 0xf || type == 0x85; }
  bool used() const { return type != 0 && count != 0; }
};

// REQUIRES: `sector` has 512 bytes.
std::array<MbrEntry, 4> MbrEntries(std::span<const std::byte> sector);

bool HasBootSignature(std::span<const std::byte> sector);
// Not a boot sector that is a file system's: its code lies where the entries
// would be.
bool LooksLikeMbr(std::span<const std::byte> sector);
// One that says that the table is a GPT.
bool IsProtectiveMbr(std::span<const std::byte> sector);

// Give entry `index` so many sectors; the address of its last one in cylinders
// and heads follows, as for a disk of 255 heads and 63 sectors.
// REQUIRES: `count` fits into 32 bits.
void SetMbrEntryCount(std::span<std::byte> sector, size_t index,
                      uint64_t count);

}  // namespace bootstream

#endif  // BLOCKMAP_DISK_MBR_H_
