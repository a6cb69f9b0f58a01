#include "blockmap/disk/mbr.h"

#include <algorithm>

#include "blockmap/base/coding.h"

namespace bootstream {

std::array<MbrEntry, 4> MbrEntries(std::span<const std::byte> sector) {
  std::array<MbrEntry, 4> entries;
  ByteReader in(sector.subspan(kMbrTableOffset));
  for (MbrEntry& entry : entries) {
    entry.status = in.U8();
    in.Skip(3);
    entry.type = in.U8();
    in.Skip(3);
    entry.first = in.U32();
    entry.count = in.U32();
  }
  return entries;
}

bool HasBootSignature(std::span<const std::byte> sector) {
  return sector[510] == std::byte{0x55} && sector[511] == std::byte{0xaa};
}

bool LooksLikeMbr(std::span<const std::byte> sector) {
  return HasBootSignature(sector) &&
         std::ranges::all_of(MbrEntries(sector), [](const MbrEntry& entry) {
           return entry.status == 0 || entry.status == 0x80;
         });
}

bool IsProtectiveMbr(std::span<const std::byte> sector) {
  return LooksLikeMbr(sector) &&
         std::ranges::any_of(MbrEntries(sector), [](const MbrEntry& entry) {
           return entry.type == kMbrProtective;
         });
}

void SetMbrEntryCount(std::span<std::byte> sector, size_t index,
                      uint64_t count) {
  constexpr uint64_t kSectors = 63;
  constexpr uint64_t kHeads = 255;
  constexpr uint64_t kCylinderMax = 1023;
  const auto entry =
      sector.subspan(kMbrTableOffset + index * kMbrEntryBytes, kMbrEntryBytes);
  const uint64_t last = LoadLe<uint32_t>(entry.subspan<8, 4>()) + count - 1;
  StoreLe(entry.subspan<12, 4>(), static_cast<uint32_t>(count));
  uint64_t cylinder = last / (kSectors * kHeads);
  uint64_t head = last / kSectors % kHeads;
  uint64_t number = last % kSectors + 1;
  if (cylinder > kCylinderMax) {  // where it ends cannot be said so
    cylinder = kCylinderMax;
    head = kHeads - 1;
    number = kSectors;
  }
  entry[5] = static_cast<std::byte>(head);
  entry[6] = static_cast<std::byte>(number | (cylinder >> 8 << 6));
  entry[7] = static_cast<std::byte>(cylinder & 0xff);
}

}  // namespace bootstream
