#include "bootagent/image_table.h"

#include <algorithm>
#include <array>
#include <string>

#include "bootagent/image_device.h"

namespace bootstream {
namespace {

constexpr uint8_t kMbrSwap = 0x82;
constexpr uint8_t kMbrEsp = 0xef;

// Linux swap, 0657fd6d-a4ab-43c4-84e5-0933c84b4f4f, and Linux extended boot
// partition, bc13c2ff-59e6-4262-a352-b275fd6f7172, bytes as on the disk.
constexpr std::array<uint8_t, 16> kSwapGuid = {
    0x6d, 0xfd, 0x57, 0x06, 0xab, 0xa4, 0xc4, 0x43,
    0x84, 0xe5, 0x09, 0x33, 0xc8, 0x4b, 0x4f, 0x4f};
constexpr std::array<uint8_t, 16> kExtendedBootGuid = {
    0xff, 0xc2, 0x13, 0xbc, 0xe6, 0x59, 0x62, 0x42,
    0xa3, 0x52, 0xb2, 0x75, 0xfd, 0x6f, 0x71, 0x72};

bool HasGuid(const Partition& partition, const std::array<uint8_t, 16>& guid) {
  return std::ranges::equal(std::as_bytes(std::span(guid)),
                            partition.type_guid);
}

// Could it be somebody's root?
bool MayBeRoot(const PartitionTable& table, const Partition& partition) {
  if (table.type == TableType::kMbr) {
    return partition.mbr_type != kMbrSwap && partition.mbr_type != kMbrEsp;
  }
  return partition.type_guid != kEspTypeGuid &&
         partition.type_guid != kBiosBootTypeGuid &&
         !HasGuid(partition, kSwapGuid) &&
         !HasGuid(partition, kExtendedBootGuid);
}

bool IsPinnedWhole(const Manifest& manifest, const Partition& partition) {
  const uint32_t chunk_bytes = manifest.grid().chunk_bytes;
  for (uint64_t c = partition.extent.offset / chunk_bytes;
       c * chunk_bytes < partition.extent.end(); ++c) {
    if (!manifest.IsPinned(ImageChunk{c})) return false;
  }
  return true;
}

}  // namespace

Task<Result<PartitionTable>> ReadImageTable(const Manifest& manifest,
                                            ChunkSource& source) {
  ImageDevice device(manifest.grid(), source);
  auto table = co_await ReadPartitionTable(device);
  if (!table) co_return Annotate(table.error(), "the image");
  co_return table;
}

Status CheckImageTable(const Manifest& manifest, const PartitionTable& table) {
  const std::string image = "the image " + manifest.content().name;
  uint64_t roots = 0;
  uint64_t pinned_roots = 0;
  for (const Partition& partition : table.partitions) {
    if (partition.extent.offset % kBlockBytes != 0) {
      return Error{ErrorCode::kRefused,
                   "partition " + std::to_string(partition.number) + " of " +
                       image + " does not begin at a multiple of 4 KiB"};
    }
    if (!MayBeRoot(table, partition)) continue;
    ++roots;
    pinned_roots += IsPinnedWhole(manifest, partition);
  }
  if (roots == 0 || pinned_roots < roots) return OkStatus();
  return Error{ErrorCode::kRefused, "/boot lies in the root file system of " +
                                        image + ", which is not supported yet"};
}

}  // namespace bootstream
