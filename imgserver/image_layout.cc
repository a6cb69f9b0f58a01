#include "imgserver/image_layout.h"

#include <algorithm>
#include <array>

#include "blockmap/base/posix_block_device.h"
#include "blockmap/disk/used_extents.h"
#include "imgserver/boot_directory.h"

namespace bootstream {
namespace {

constexpr uint8_t kMbrEsp = 0xef;
constexpr uint64_t kSuperblockReach = uint64_t{128} << 10;  // btrfs: at 64 KiB
constexpr uint64_t kGapMax = 16 << 20;

// Linux extended boot partition, bc13c2ff-59e6-4262-a352-b275fd6f7172.
constexpr std::array<uint8_t, 16> kExtendedBootGuid = {
    0xff, 0xc2, 0x13, 0xbc, 0xe6, 0x59, 0x62, 0x42,
    0xa3, 0x52, 0xb2, 0x75, 0xfd, 0x6f, 0x71, 0x72};

bool IsEsp(const PartitionTable& table, const Partition& partition) {
  return table.type == TableType::kGpt ? partition.type_guid == kEspTypeGuid
                                       : partition.mbr_type == kMbrEsp;
}

bool IsExtendedBoot(const Partition& partition) {
  return std::ranges::equal(std::as_bytes(std::span(kExtendedBootGuid)),
                            partition.type_guid);
}

bool IsBiosBoot(const Partition& partition) {
  return partition.type_guid == kBiosBootTypeGuid;
}

std::string Named(const Partition& partition) {
  return "partition " + std::to_string(partition.number);
}

class LayoutReader {
 public:
  LayoutReader(const DiskImage& image, const Grid& grid)
      : image_(image), grid_(grid) {}

  Result<ImageLayout> Read(std::optional<uint32_t> boot_partition);

 private:
  Error Refused(const std::string& why) const {
    return Error{ErrorCode::kRefused, image_.path() + ": " + why};
  }
  Status ReadTable();
  Status CheckPartitions() const;
  Result<std::vector<const Partition*>> FindBoot();
  Result<std::vector<const Partition*>> NamedBoot(uint32_t number);
  void PinRoot(const Partition& partition);
  Status AddBootable(const Partition& partition);
  Status AddNonZero(ByteExtent range);
  Status AddGaps();

  const DiskImage& image_;
  const Grid grid_;
  ImageLayout layout_;
};

Status LayoutReader::ReadTable() {
  auto device = PosixBlockDevice::Open(image_.path(), OpenMode::kReadOnly);
  if (!device) return device.error();
  auto table = RunInline(ReadPartitionTable(*device));
  if (!table) return Annotate(table.error(), image_.path());
  layout_.table = std::move(*table);
  if (layout_.table.type == TableType::kNone) {
    return Refused("has no partition table; an image is a whole disk");
  }
  return OkStatus();
}

Status LayoutReader::CheckPartitions() const {
  for (const Partition& partition : layout_.table.partitions) {
    if (partition.extent.offset % kBlockBytes != 0) {
      return Refused(Named(partition) +
                     " does not begin at a multiple of "
                     "4 KiB; partition the disk anew");
    }
  }
  return OkStatus();
}

Result<std::vector<const Partition*>> LayoutReader::NamedBoot(
    uint32_t number) {
  for (const Partition& partition : layout_.table.partitions) {
    if (partition.number != number) continue;
    const auto found = FindBootDirectory(image_.path(), partition.extent);
    if (found && *found == BootDirectory::kInside) {
      PinRoot(partition);
      return std::vector<const Partition*>();
    }
    return std::vector{&partition};
  }
  return Error{ErrorCode::kInvalid, image_.path() + ": there is no partition " +
                                        std::to_string(number)};
}

Result<std::vector<const Partition*>> LayoutReader::FindBoot() {
  std::vector<const Partition*> boot;
  const Partition* inside = nullptr;
  bool has_esp = false;
  for (const Partition& partition : layout_.table.partitions) {
    if (IsEsp(layout_.table, partition)) {
      has_esp = true;
      continue;
    }
    if (IsExtendedBoot(partition)) {
      boot.push_back(&partition);
      continue;
    }
    const auto found = FindBootDirectory(image_.path(), partition.extent);
    if (!found && found.error().code != ErrorCode::kUnsupported) {
      return found.error();
    }
    if (!found) continue;
    if (*found == BootDirectory::kRoot) boot.push_back(&partition);
    if (*found == BootDirectory::kInside) inside = &partition;
  }
  if (boot.empty() && inside != nullptr) {
    PinRoot(*inside);
    return boot;
  }
  if (boot.empty() && !has_esp) {
    return Refused(
        "has neither an EFI system partition nor a /boot partition "
        "that can be recognised; name it by --boot-partition");
  }
  return boot;
}

// Chunks of `range` that are not zero.
Status LayoutReader::AddNonZero(ByteExtent range) {
  const auto chunks = image_.NonZeroChunks(grid_, range);
  if (!chunks) return chunks.error();
  for (const uint64_t chunk : *chunks) {
    layout_.boot.push_back({grid_.offset_of(chunk), grid_.bytes_of(chunk)});
  }
  return OkStatus();
}

void LayoutReader::PinRoot(const Partition& partition) {
  layout_.pinned.push_back(partition.extent);
  layout_.boot_in_root = true;
}

Status LayoutReader::AddBootable(const Partition& partition) {
  layout_.pinned.push_back(partition.extent);
  const auto used = UsedExtents(image_.path(), partition.extent);
  if (used) {
    layout_.boot.insert(layout_.boot.end(), used->begin(), used->end());
    return OkStatus();
  }
  if (used.error().code != ErrorCode::kUnsupported) {
    return Annotate(used.error(), Named(partition));
  }
  // A file system that we cannot read: everything that is there.
  return AddNonZero(partition.extent);
}

// Boot code outside all partitions, as after an MBR.
Status LayoutReader::AddGaps() {
  uint64_t first = image_.size_bytes();
  for (const Partition& partition : layout_.table.partitions) {
    first = std::min(first, partition.extent.offset);
  }
  return AddNonZero({0, std::min(first, kGapMax)});
}

Result<ImageLayout> LayoutReader::Read(std::optional<uint32_t> boot_partition) {
  if (auto status = ReadTable(); !status) return status.error();
  if (auto status = CheckPartitions(); !status) return status.error();
  const auto boot = boot_partition ? NamedBoot(*boot_partition) : FindBoot();
  if (!boot) return boot.error();
  for (const Partition& partition : layout_.table.partitions) {
    const bool bootable = IsEsp(layout_.table, partition) ||
                          std::ranges::find(*boot, &partition) != boot->end();
    Status status;
    if (bootable) {
      status = AddBootable(partition);
    } else if (IsBiosBoot(partition)) {
      layout_.pinned.push_back(partition.extent);
      status = AddNonZero(partition.extent);
    }
    if (!status) return status.error();
    layout_.boot.push_back({partition.extent.offset,
                            std::min(partition.extent.size, kSuperblockReach)});
  }
  if (auto status = AddGaps(); !status) return status.error();
  return std::move(layout_);
}

}  // namespace

Result<ImageLayout> ReadLayout(const DiskImage& image, const Grid& grid,
                               std::optional<uint32_t> boot_partition) {
  return LayoutReader(image, grid).Read(boot_partition);
}

}  // namespace bootstream
