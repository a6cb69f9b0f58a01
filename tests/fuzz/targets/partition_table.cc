// The partition tables of a disk.  The input: flags, the disk's sectors, then
// pieces (sector, byte in it, length, bytes).  With flag 1 a GPT gets its
// checksums, with flag 2 a backup that agrees with the primary.  Then the table
// grows to the disk.

#include "blockmap/disk/partition_table.h"

#include <algorithm>

#include "blockmap/base/coding.h"
#include "initramfs/grow/table_growth.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/memory_device.h"

namespace bootstream {
namespace {

constexpr uint64_t kSectorsMax = 1024;
constexpr uint64_t kEntriesBytesMax = 4 << 10;

uint32_t Crc32(std::span<const std::byte> data) {
  uint32_t crc = ~0U;
  for (const std::byte byte : data) {
    crc ^= static_cast<uint32_t>(byte);
    for (int i = 0; i < 8; ++i) crc = crc >> 1 ^ ((crc & 1) * 0xedb88320U);
  }
  return ~crc;
}

struct Header {
  explicit Header(std::span<std::byte> sector) : bytes(sector) {}
  template <size_t kAt>
  uint64_t Get() const {
    return LoadLe<uint64_t>(bytes.subspan<kAt, 8>());
  }
  template <size_t kAt>
  void Put(uint64_t value) {
    StoreLe<uint64_t>(bytes.subspan<kAt, 8>(), value);
  }
  uint32_t size() const { return LoadLe<uint32_t>(bytes.subspan<12, 4>()); }
  uint64_t entries_bytes() const {
    return uint64_t{LoadLe<uint32_t>(bytes.subspan<80, 4>())} *
           LoadLe<uint32_t>(bytes.subspan<84, 4>());
  }
  std::span<std::byte> bytes;
};

// The entries that the header in sector `lba` names; empty if they cannot be.
std::span<std::byte> Entries(std::span<std::byte> disk, const Header& header) {
  const uint64_t size = header.entries_bytes();
  const uint64_t lba = header.Get<72>();
  if (size > kEntriesBytesMax || lba >= disk.size() / kSectorBytes ||
      size > disk.size() - lba * kSectorBytes) {
    return {};
  }
  return disk.subspan(lba * kSectorBytes, size);
}

void Mirror(std::span<std::byte> disk, uint64_t sectors) {
  const Header primary(disk.subspan(kSectorBytes, kSectorBytes));
  const uint64_t other = primary.Get<32>();
  const uint64_t entries_sectors =
      (primary.entries_bytes() + kSectorBytes - 1) / kSectorBytes;
  if (other < 2 || other >= sectors || entries_sectors > other) return;
  Header backup(disk.subspan(other * kSectorBytes, kSectorBytes));
  std::ranges::copy(primary.bytes, backup.bytes.begin());
  backup.Put<24>(other);
  backup.Put<32>(1);
  backup.Put<72>(other - entries_sectors);
  const auto from = Entries(disk, primary);
  const auto to = Entries(disk, backup);
  if (from.size() != to.size()) return;
  const std::vector<std::byte> copy(from.begin(), from.end());
  std::ranges::copy(copy, to.begin());
}

void Sum(std::span<std::byte> disk, uint64_t lba) {
  const Header header(disk.subspan(lba * kSectorBytes, kSectorBytes));
  const uint32_t size = header.size();
  if (size < 92 || size > kSectorBytes) return;
  const auto entries = Entries(disk, header);
  StoreLe<uint32_t>(header.bytes.subspan<88, 4>(), Crc32(entries));
  StoreLe<uint32_t>(header.bytes.subspan<16, 4>(), 0);
  StoreLe<uint32_t>(header.bytes.subspan<16, 4>(),
                    Crc32(header.bytes.first(size)));
}

void CheckTable(const PartitionTable& table, uint64_t disk_bytes) {
  std::vector<ByteExtent> extents;
  for (const Partition& partition : table.partitions) {
    Require(partition.number > 0, "partitions count from one");
    extents.push_back(partition.extent);
  }
  std::ranges::sort(extents);
  uint64_t end = 0;
  for (const ByteExtent& extent : extents) {
    Require(extent.offset >= end && extent.size > 0, "no partitions overlap");
    Require(
        extent.offset < disk_bytes && extent.size <= disk_bytes - extent.offset,
        "partitions lie inside the disk");
    end = extent.end();
  }
  for (const ByteExtent& extent : table.table_extents) {
    Require(extent.size > 0 && extent.offset < disk_bytes &&
                extent.size <= disk_bytes - extent.offset,
            "tables lie inside the disk");
  }
  Require(table.type == TableType::kNone ||
              table.table_extents.back() == ByteExtent{0, kSectorBytes},
          "sector 0 is written last");
}

// What can grow is a good table then, with the same partitions.
void CheckGrowth(MemoryDevice& device) {
  const auto before = RunInline(ReadTableToGrow(device));
  if (!before) return;
  const auto growth = PlanTableGrowth(*before, true);
  if (!growth) return;
  for (const TableStep& step : growth->steps) {
    for (const TableWrite& write : step) {
      Require(write.offset <= before->disk_bytes &&
                  write.data.size() <= before->disk_bytes - write.offset,
              "the new table lies inside the disk");
    }
  }
  const Status written = RunInline(WriteTableGrowth(device, *growth));
  Require(written.has_value(), "it can be written");
  const auto after = RunInline(ReadPartitionTable(device));
  Require(after.has_value(), "what has grown is a table");
  CheckTable(*after, before->disk_bytes);
  Require(after->partitions.size() == before->partitions.size(),
          "no partition is lost");
  for (size_t i = 0; i < after->partitions.size(); ++i) {
    const Partition& was = before->partitions[i];
    const Partition& is = after->partitions[i];
    Require(is.extent.offset == was.extent.offset && is.guid == was.guid &&
                (is.extent.size == was.extent.size ||
                 (was.number == before->last()->number &&
                  is.extent.size > was.extent.size)),
            "only the last one has changed, and it is larger");
  }
  const auto again = RunInline(ReadTableToGrow(device));
  Require(again.has_value(), "it can be grown again");
  const auto nothing = PlanTableGrowth(*again, true);
  Require(nothing && RunInline(IsGrown(device, *nothing)).value_or(false),
          "and that changes nothing");
}

}  // namespace

FUZZ_TARGET(partition_table) {
  ByteReader in(input);
  const uint8_t flags = in.U8();
  const uint64_t sectors = in.U16() % (kSectorsMax + 1);
  MemoryDevice device(sectors * kSectorBytes);
  const auto disk = device.bytes();
  while (in.remaining() > 6 && sectors > 0) {
    const uint64_t lba = in.U16() % sectors;
    const uint64_t at = lba * kSectorBytes + in.U16() % kSectorBytes;
    const auto data = in.Bytes(std::min<size_t>(in.U16(), in.remaining()));
    std::ranges::copy(data.first(std::min(data.size(), disk.size() - at)),
                      disk.begin() + static_cast<ptrdiff_t>(at));
  }
  if (sectors >= 3) {
    if ((flags & 2) != 0) Mirror(disk, sectors);
    if ((flags & 1) != 0) {
      const uint64_t other = Header(disk.subspan(kSectorBytes)).Get<32>();
      Sum(disk, 1);
      if (other > 1 && other < sectors) Sum(disk, other);
    }
  }
  const auto table = RunInline(ReadPartitionTable(device));
  if (table) CheckTable(*table, disk.size());
  CheckGrowth(device);
}

}  // namespace bootstream
